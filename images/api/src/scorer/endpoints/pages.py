"""The web form at / and the API's documentation at /docs: static files, all served from this host."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

_WEB = Path(__file__).parent / "web"
# Only this host's own files; no inline scripts, and no framing.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI sets inline styles.
_DOCS_CSP = _CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def _swagger(name: str) -> Path:
    """Return a file of Swagger UI from the package that contains it; the package itself is not imported."""
    spec = importlib.util.find_spec("fastapi_offline")
    folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "."
    return Path(folder) / "static" / name


PAGES: dict[str, Path] = {
    "/": _WEB / "index.html",
    "/page.css": _WEB / "page.css",
    "/page.js": _WEB / "page.js",
    "/favicon.svg": _WEB / "favicon.svg",
    "/docs": _WEB / "docs.html",
    "/docs/init.js": _WEB / "docs.js",
    "/docs/swagger-ui-bundle.js": _swagger("swagger-ui-bundle.js"),
    "/docs/swagger-ui.css": _swagger("swagger-ui.css"),
}


def add_pages(app: Starlette) -> None:
    """Let an application serve the pages."""
    for path, file in PAGES.items():
        app.router.routes.append(Route(path, _serving(file, docs=path == "/docs"), methods=["GET"]))


def _serving(file: Path, *, docs: bool) -> Callable[[Request], Awaitable[Response]]:
    headers = {**_HEADERS, "Content-Security-Policy": _DOCS_CSP if docs else _CSP}

    async def serve(_: Request) -> Response:
        return FileResponse(file, headers=headers)

    return serve
