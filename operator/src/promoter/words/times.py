"""Times and durations in words."""

from __future__ import annotations

import math
from datetime import datetime


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as 2m10s; less than a second is 0s."""
    left = max(0, math.floor(seconds))
    parts: list[tuple[int, str]] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
    shown = [f"{count}{unit}" for count, unit in parts[:2] if count]
    return "".join(shown) or "0s"


def in_words(seconds: float) -> str:
    """Return when something happens, given in how many seconds."""
    return "now" if seconds < 1 else f"in {duration(seconds)}"


def local_time(seconds: float | None) -> str:
    """Return a time in the zone of the terminal's user, to the second; "-" for one that is not known."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
