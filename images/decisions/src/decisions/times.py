"""Times as people and other systems write them."""

from __future__ import annotations

from datetime import UTC, datetime

ALLOWED = "a date or time of ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z"


def utc_time(text: str) -> datetime:
    """Return a time with a zone: UTC if it names none, and the beginning of the day if it is a date.

    Raises:
        ValueError: It is neither; the message is what is allowed.
    """
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(ALLOWED) from error
