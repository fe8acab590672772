"""The estimate of a trend that decides whether memory is flat."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable

import pytest

from conftest import REPOSITORY

Slope = Callable[[list[float], list[float]], tuple[float, float]]


@pytest.fixture(scope="module")
def slope() -> Slope:
    found: Slope = runpy.run_path(str(REPOSITORY / "benchmarks" / "serving" / "trend.py"))["slope_per_hour"]
    return found


def samples(per_hour: float, seconds: int, dice: random.Random, noise: float) -> tuple[list[float], list[float]]:
    """Return a line with noise that drifts, as pages that come and go do."""
    times, values, drift = [], [], 0.0
    for second in range(seconds):
        drift = 0.9 * drift + dice.gauss(0, noise)
        times.append(float(second))
        values.append(110 + per_hour * second / 3600 + drift)
    return times, values


@pytest.mark.parametrize("per_hour", [0.0, 5.0, -3.0])
@pytest.mark.parametrize("seconds", [120, 1800])
def test_the_slope_is_found_within_its_error(slope: Slope, per_hour: float, seconds: int) -> None:
    dice = random.Random(3)
    inside = 0
    for _ in range(100):
        found, error = slope(*samples(per_hour, seconds, dice, 0.02))
        inside += abs(found - per_hour) <= 2 * error
    # A short series knows less about its own error.
    assert inside >= (70 if seconds < 600 else 85)


def test_half_an_hour_tells_a_leak_of_1_mb_an_hour_from_none(slope: Slope) -> None:
    dice = random.Random(4)
    for per_hour, leaks in ((0.0, False), (2.0, True)):
        found, error = slope(*samples(per_hour, 1800, dice, 0.02))
        assert (found - 2 * error > 0) is leaks
        assert error < 0.5


def test_memory_that_does_not_change_has_no_slope_and_no_error(slope: Slope) -> None:
    assert slope([float(second) for second in range(120)], [110.0] * 120) == (0.0, 0.0)


def test_too_few_samples_are_refused(slope: Slope) -> None:
    with pytest.raises(ValueError, match="too few"):
        slope([0.0, 1.0], [1.0, 1.0])
