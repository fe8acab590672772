"""Ranges of days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Days:
    """Whole days from one to another, which is not part of it."""

    since: date
    until: date

    def __contains__(self, day: date) -> bool:
        """Return whether a day is one of them."""
        return self.since <= day < self.until
