"""Errors as problem+json (RFC 9457), in the form of contracts/problem.schema.json."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """One invalid field of a request."""

    field: str
    problem: str
    allowed: str


class ProblemDocument(BaseModel):
    """An error answer."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


class Problem(HTTPException):
    """An error answer; see `ProblemDocument`. FastAPI hides other errors than its own while it reads a body."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Describe an error by its status, a sentence for people, the invalid fields and further headers."""
        super().__init__(status, detail, dict(headers or {}))
        self.errors = list(errors)

    def body(self) -> bytes:
        """Return the problem as JSON."""
        document = ProblemDocument(
            title=http.HTTPStatus(self.status_code).phrase,
            status=self.status_code,
            detail=self.detail,
            errors=self.errors or None,
        )
        return msgspec.json.encode(document.model_dump(exclude_none=True))

    def response(self) -> Response:
        """Return the problem as an answer."""
        return Response(self.body(), self.status_code, self.headers, MEDIA_TYPE)


def unauthorized(detail: str, error: str = "") -> Problem:
    """Return a 401 that says how to authenticate (RFC 6750)."""
    challenge = 'Bearer realm="credit-risk"' + (f', error="{error}"' if error else "")
    return Problem(401, detail, headers={"WWW-Authenticate": challenge})


def invalid_field(field: str, problem: str, allowed: str) -> Problem:
    """Return a 422 about one field."""
    return Problem(422, f"{field} {problem}", [FieldProblem(field=field, problem=problem, allowed=allowed)])


def handle_problems(app: FastAPI) -> None:
    """Make the application answer errors as problems."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        fields = [_field_problem(found) for found in error.errors()]
        detail = f"{len(fields)} fields of the request are invalid" if len(fields) > 1 else (
            f"{fields[0].field} {fields[0].problem}")  # fmt: skip
        return Problem(422, detail, fields).response()

    @app.exception_handler(StarletteHTTPException)
    async def http_exception(request: Request, error: StarletteHTTPException) -> Response:
        detail = f"there is nothing at {request.url.path[:200]}" if error.status_code == 404 else str(error.detail)
        return Problem(error.status_code, detail, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def failure(_: Request, __: Exception) -> Response:
        return Problem(500, "the service failed; its log says why").response()


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    """Return what pydantic found, without the value: it may be an applicant's."""
    place = [str(part) for part in error["loc"] if part not in {"query", "path", "body", "header"}]
    message = str(error["msg"])
    problem = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(error["type"], "is invalid")
    allowed = {"missing": "a value", "extra_forbidden": "only the fields in /openapi.json"}.get(
        error["type"], message.removeprefix("Input should be ").removeprefix("Value error, ")
    )
    return FieldProblem(field=".".join(place) or "the body", problem=problem, allowed=allowed)
