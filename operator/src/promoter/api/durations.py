"""Durations as Kubernetes users write them: 30s, 5m, 1h30m, 500ms; in days (7d) where nothing else reads them."""

from __future__ import annotations

import re

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
# CEL and Go read no days.
PATTERN_WITH_DAYS = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    if not re.match(PATTERN_WITH_DAYS, text):
        raise ValueError(f"{text!r} is not a duration; allowed are numbers with ms, s, m, h or d, as in 30s or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
