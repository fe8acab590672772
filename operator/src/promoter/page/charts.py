"""Drawings as inline SVG: how a check developed, and how the applicants are shared. Colors are in the style sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promoter.page.html import Html, element
from promoter.page.series import Point
from promoter.words.marks import VERDICTS
from promoter.words.numbers import interval, number
from promoter.words.times import duration

_WIDTH, _HEIGHT, _EDGE = 180.0, 44.0, 4.0
# How far above the limit a chart goes, in limits; an outlier is drawn at its edge.
_HIGHEST = 4.0


class _Scale:
    """Places times and values in the drawing."""

    def __init__(self, points: Sequence[Point], limit: float) -> None:
        known = [number for point in points for number in (point.value, point.lower, point.upper) if number is not None]
        self._low = min([0.0, *known])
        top = max([1.25 * limit, *known])
        self._high = min(top, _HIGHEST * limit) if limit > 0 else top
        self._since = points[0].at
        self._seconds = max(points[-1].at - self._since, 1e-9)
        self._alone = len(points) == 1

    def x(self, at: float) -> float:
        share = 1.0 if self._alone else (at - self._since) / self._seconds
        return round(_EDGE + share * (_WIDTH - 2 * _EDGE), 1)

    def y(self, value: float) -> float:
        share = (min(value, self._high) - self._low) / max(self._high - self._low, 1e-9)
        return round(_HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE), 1)


def check_chart(name: str, points: Sequence[Point], limit: float) -> Html | None:
    """Return how a check developed: its values, its bounds as a band, and its limit; None without a value."""
    shown = [point for point in points if point.value is not None]
    if not shown:
        return None
    scale, last = _Scale(shown, limit), shown[-1]
    high = scale.y(limit)
    return element(
        "svg",
        _band(shown, scale),
        element("line", class_="limit", x1=_text(_EDGE), x2=_text(_WIDTH - _EDGE), y1=_text(high), y2=_text(high)),
        element("polyline", class_="value", points=_coordinates((scale.x(p.at), scale.y(p.value or 0)) for p in shown)),
        element("circle", class_=VERDICTS[last.verdict].tone, cx=_text(scale.x(last.at)),
                cy=_text(scale.y(last.value or 0)), r="3.5"),
        class_="chart", viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}", role="img", aria_label=_described(name, shown, limit),
    )  # fmt: skip


def _band(points: Sequence[Point], scale: _Scale) -> Html | None:
    bounded = [(point, point.lower, point.upper) for point in points]
    there = [(scale.x(point.at), scale.y(upper)) for point, _, upper in bounded if upper is not None]
    back = [(scale.x(point.at), scale.y(lower)) for point, lower, _ in reversed(bounded) if lower is not None]
    if len(there) < 2 or len(back) < 2:
        return None
    return element("polygon", class_="band", points=_coordinates([*there, *back]))


def _described(name: str, points: Sequence[Point], limit: float) -> str:
    values = [point.value for point in points if point.value is not None]
    span = duration(points[-1].at - points[0].at)
    return (f"{name} over {len(points)} analyses in {span}: {interval(min(values), max(values))}, now "
            f"{number(values[-1])}; the limit is {number(limit)}")  # fmt: skip


def share_bar(canary: int, words: str) -> Html:
    """Return a bar with the percentage of applicants that the canary answers."""
    return element(
        "svg",
        element("rect", class_="whole", width="100", height="1"),
        element("rect", class_="part", width=str(canary), height="1"),
        class_="share", viewBox="0 0 100 1", preserveAspectRatio="none", role="img", aria_label=words,
    )  # fmt: skip


def _coordinates(places: Iterator[tuple[float, float]] | Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _text(value: float) -> str:
    return f"{value:g}"
