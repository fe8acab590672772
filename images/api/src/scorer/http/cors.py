"""Cross-origin requests from the web pages of other hosts; none are allowed unless the settings name their origins."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from scorer.http.asgi import App
from scorer.http.media_types import PROBLEM_JSON
from scorer.problems import Problem

_REQUEST_HEADERS = ("Authorization", "Content-Encoding", "Content-Type", "Inference-Header-Content-Length", "X-API-Key",
                    "X-Applicant-Id", "X-Request-Id")  # fmt: skip
_ANSWER_HEADERS = ("Accept", "Accept-Encoding", "Allow", "Inference-Header-Content-Length", "Retry-After",
                   "WWW-Authenticate")  # fmt: skip


class Cors(CORSMiddleware):
    """Answers preflight requests, which carry no credentials, and lets allowed origins read all other answers."""

    def __init__(self, app: App, origins: Collection[str]) -> None:
        """Take the application and the origins; `*` allows all, which is safe because cookies mean nothing here."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight request; a refusal is a problem like any other."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        problem = Problem(answer.status_code, bytes(answer.body).decode())
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return Response(problem.body(), problem.status, headers, PROBLEM_JSON)
