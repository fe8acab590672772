"""Errors as problem+json (RFC 9457): what was wrong, where, and what is allowed."""

from __future__ import annotations

import http
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType


class FieldProblem(msgspec.Struct, frozen=True):
    """One invalid field of a request."""

    field: str
    problem: str
    allowed: str


class ProblemDocument(msgspec.Struct, frozen=True):
    """An error answer as RFC 9457 defines it."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    code: Annotated[str | UnsetType, Meta(description="On /readyz a readiness code; or decision-not-logged")] = UNSET
    error: Annotated[str | UnsetType, Meta(description="The detail again, under /v2 only")] = UNSET
    errors: tuple[FieldProblem, ...] | UnsetType = UNSET


class Problem(Exception):  # noqa: N818 - RFC 9457's term
    """An error answer; carries everything its body and headers need.

    Attributes:
        status: The HTTP status code.
        detail: A sentence for people.
        errors: The invalid fields, for programs.
        headers: Further headers of the answer.
        code: A machine-readable code; empty for none.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: tuple[FieldProblem, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        code: str = "",
    ) -> None:
        """Describe an error; see the attributes of the class."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.code = code

    def __reduce__(self) -> tuple[type[Problem], tuple[object, ...]]:
        """Pickle all attributes, so that a problem survives the way out of the sandbox process."""
        return Problem, (self.status, self.detail, self.errors, self.headers, self.code)

    def body(self, *, repeat_detail: bool = False) -> bytes:
        """Return the problem as JSON; `repeat_detail` adds the member that Open Inference Protocol clients read."""
        return msgspec.json.encode(
            ProblemDocument(
                type="about:blank",
                title=http.HTTPStatus(self.status).phrase,
                status=self.status,
                detail=self.detail,
                code=self.code or UNSET,
                error=self.detail if repeat_detail else UNSET,
                errors=self.errors or UNSET,
            )
        )
