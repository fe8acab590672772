"""Errors as problem+json (RFC 9457): what was wrong, where, and what is allowed."""

from __future__ import annotations

import http
from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class FieldProblem(msgspec.Struct, frozen=True):
    """One field's problem."""

    field: str
    problem: str
    allowed: str


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """An answer other than success; carries all that its body says."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: tuple[FieldProblem, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Take the status code, a sentence for people, and the fields' problems for programs."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def __reduce__(self) -> tuple[type[Problem], tuple[object, ...]]:
        """Let a problem come whole out of another process."""
        return Problem, (self.status, self.detail, self.errors, self.headers)

    def body(self, extension: Mapping[str, object] = MappingProxyType({})) -> bytes:
        """Return the problem as JSON, with members that a protocol adds."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **extension,
        }
        if self.errors:
            document["errors"] = self.errors
        return msgspec.json.encode(document)
