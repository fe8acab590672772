"""How long to wait after failures before the next attempt."""

from __future__ import annotations

import random


def backoff(failures: int, first: float, longest: float) -> float:
    """Return a pause in seconds that doubles with each failure in a row, of which there is at least one."""
    return min(first * 2.0 ** min(failures - 1, 10), longest)


def spread(seconds: float) -> float:
    """Return about as many seconds, so that those who failed together do not try again together."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
