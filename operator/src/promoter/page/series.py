"""How checks developed: the results of a rollout's analyses, at most so many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from promoter.api.status import AnalysisResult, MetricResult, Verdict

# A point is 200 bytes; a rollout with eight checks then takes at most 200 KB.
POINTS_KEPT = 120


class Point(NamedTuple):
    """One result of a check: when (seconds since 1970), and its numbers, None where they are not known."""

    at: float
    value: float | None
    lower: float | None
    upper: float | None
    verdict: Verdict


def extended(series: Mapping[str, list[Point]], judgment: AnalysisResult) -> dict[str, list[Point]]:
    """Return the series of all checks with the results of an analysis; long ones with every second point dropped."""
    points = {result.name: _point(judgment.at, result) for result in judgment.results}
    return {
        name: _thinned([*series.get(name, ()), *([points[name]] if name in points else [])])
        for name in dict.fromkeys([*series, *points])
    }


def _point(at: float, result: MetricResult) -> Point:
    return Point(at, result.value, result.lower, result.upper, result.verdict)


def _thinned(points: list[Point]) -> list[Point]:
    """Return the points, every second one if there are too many; the first and the last stay."""
    return points if len(points) <= POINTS_KEPT else [*points[:-1:2], points[-1]]
