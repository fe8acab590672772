"""What all paths have in common: HEAD wherever there is a GET, OPTIONS, Allow in each 405, and no slash at the end."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from scorer.http.asgi import App, Receive, Scope, Send, send_empty, send_redirect
from scorer.http.content_coding import ACCEPTED


class Methods:
    """An ASGI application around a router, for what all of its paths have in common."""

    def __init__(self, app: App, routes: Sequence[BaseRoute]) -> None:
        """Take the application and the routes behind it."""
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            HTTPException: 404 for an unknown path, 405 with Allow for a method that it does not have.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await self._describe(scope, send)
            return
        try:
            # The server leaves out the body of an answer to HEAD; it looks at a scope of its own.
            await self._app({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, send)
        except HTTPException as error:
            if error.status_code == 405:
                raise HTTPException(405, headers={"Allow": ", ".join(self._allowed(scope))}) from error
            path = scope["path"]
            if error.status_code == 404 and path.endswith("/") and self._allowed({**scope, "path": path[:-1]}):
                await send_redirect(send, f"../{path[:-1].rpartition('/')[2]}", scope["query_string"])
                return
            raise

    async def _describe(self, scope: Scope, send: Send) -> None:
        allowed = self._allowed(scope)
        if not allowed:
            raise HTTPException(404)
        codings = [("Accept-Encoding", ACCEPTED)] if "POST" in allowed else []
        await send_empty(send, 204, [("Allow", ", ".join(allowed)), *codings])

    def _allowed(self, scope: Scope) -> list[str]:
        """Return the methods of a scope's path, none if it does not exist; those of all paths for `*`."""
        found = {
            method
            for route in self._routes
            if isinstance(route, Route) and (scope["path"] == "*" or route.matches(scope)[0] is not Match.NONE)
            for method in route.methods or ()
        }
        return sorted(found | ({"HEAD"} if "GET" in found else set()) | {"OPTIONS"}) if found else []
