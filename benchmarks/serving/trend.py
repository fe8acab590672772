"""The trend of a value over time, with its error: for memory that should stay flat and jumps in steps of pages."""

import math

# Neighboring samples are alike, so a group of them counts as one value, its mean.
GROUPS = 8


def slope_per_hour(seconds: list[float], values: list[float]) -> tuple[float, float]:
    """Return the slope of a least-squares line in units per hour, and its standard error.

    Args:
        seconds: When each value was sampled, rising, [N].
        values: What was sampled, [N].

    Raises:
        ValueError: With fewer samples than two a group.
    """
    size = len(values) // GROUPS
    if size < 2:
        raise ValueError(f"{len(values)} samples are too few for a trend")
    starts = range(0, GROUPS * size, size)
    times = [sum(seconds[at : at + size]) / size / 3600 for at in starts]
    means = [sum(values[at : at + size]) / size for at in starts]
    middle, level = sum(times) / GROUPS, sum(means) / GROUPS
    points = [(time - middle, mean - level) for time, mean in zip(times, means, strict=True)]
    spread = sum(time * time for time, _ in points)
    slope = sum(time * mean for time, mean in points) / spread
    residual = sum((mean - slope * time) ** 2 for time, mean in points) / (GROUPS - 2)
    return slope, math.sqrt(residual / spread)
