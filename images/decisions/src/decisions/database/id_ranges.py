"""Times as ranges of ids: a UUIDv7 begins with its milliseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

FIRST_ID = UUID(int=0)
LAST_ID = UUID(int=(1 << 128) - 1)
_RANDOM_BITS = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


def first_id(at: datetime) -> UUID:
    """Return the lowest id of a decision at this time or later; the time has a time zone.

    Only ids of one partition lie between those of two months, so a query that names them reads no other.
    """
    # In whole numbers: a float has no microseconds left for years that are far away. Rounded up by negating twice.
    milliseconds = -((_EPOCH - at) // timedelta(milliseconds=1))
    return UUID(int=max(0, milliseconds) << _RANDOM_BITS)


def time_of(decision_id: UUID) -> datetime:
    """Return when a decision was made; an id later than the year 9999 is taken as then."""
    return _EPOCH + timedelta(milliseconds=min(decision_id.int >> _RANDOM_BITS, _LAST_MILLISECOND))
