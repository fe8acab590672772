"""Times: RFC 3339 in documents, seconds since 1970 in decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema


def to_seconds(value: Any) -> Any:  # noqa: ANN401 - whatever is in the document; pydantic checks what comes out
    """Return seconds since 1970 for RFC 3339 text.

    Numbers pass: statuses of older operators have seconds, and 0 for a time that is not set.

    Raises:
        ValueError: the text is not RFC 3339 with a time zone.
    """
    if not isinstance(value, str):
        return value or None
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; allowed is RFC 3339, as in 2026-01-31T12:00:00.250Z")
    return moment.timestamp()


def to_text(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_whole_seconds_text(seconds: float) -> str:
    """Return seconds since 1970 as Kubernetes writes a metav1.Time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_microseconds_text(seconds: float) -> str:
    """Return seconds since 1970 as Kubernetes writes a metav1.MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Timestamp = Annotated[
    float,
    BeforeValidator(to_seconds),
    PlainSerializer(to_text, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
# None: that has not happened.
OptionalTimestamp = Annotated[
    float | None,
    BeforeValidator(to_seconds),
    PlainSerializer(to_text, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
