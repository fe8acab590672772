"""Numbers and intervals in words."""

from __future__ import annotations


def number(value: float | None) -> str | None:
    """Return a number to four digits."""
    return None if value is None else f"{value:.4g}"


def interval(lower: float | None, upper: float | None) -> str | None:
    """Return a confidence interval, which may be open on one side; None without one."""
    if lower is None and upper is None:
        return None
    if lower is None:
        return f"<= {number(upper)}"
    return f">= {number(lower)}" if upper is None else f"{number(lower)} to {number(upper)}"
