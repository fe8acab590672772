"""The path prefix under which an ingress publishes the service."""

from __future__ import annotations

from scorer.http.asgi import App, Receive, Scope, Send, send_redirect


class RootPath:
    """Takes the prefix off the paths of requests.

    Requests without it are served too: those of pods in the cluster, and of proxies that took it off themselves. All
    links in pages and answers are relative, so nothing else has to know the prefix, or whether clients use HTTPS.
    """

    def __init__(self, app: App, prefix: str) -> None:
        """Take the application, and the prefix, which begins with a slash and ends without one."""
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope.get("path", "")
        if path == self._prefix and scope["method"] in {"GET", "HEAD"}:
            # The page's links are relative to its folder.
            await send_redirect(send, f"{path.rpartition('/')[2]}/", scope["query_string"])
            return
        if path == self._prefix or path.startswith(f"{self._prefix}/"):
            scope = {**scope, "path": path.removeprefix(self._prefix) or "/"}
        await self._app(scope, receive, send)
