"""Plots as inline SVG: no script, no font and no file from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# Distinguishable with any color vision (Okabe and Ito).
NOW, REFERENCE, GOOD, BAD, MUTED = "#0072b2", "#b8bdc4", "#00795c", "#c1440e", "#5c6570"
# Of curves, from the oldest to the newest.
_OLDEST, _NEWEST = (183, 205, 226), (8, 48, 92)


@dataclass(frozen=True)
class Point:
    """A value with its interval, at a place of the axis."""

    place: float
    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class _Frame:
    """A plot's area in pixels, and the values at its edges."""

    width: float
    height: float
    left: float
    top: float
    low: float
    high: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.top + self.height * (1 - min(max(share, 0.0), 1.0))


def histogram(labels: Sequence[str], now: Sequence[float], reference: Sequence[float], title: str) -> str:
    """Return horizontal bars of shares, the reference's in gray under those of now."""
    row, left, width = 22, 150, 200
    most = max(*now, *reference, 1e-9)
    parts = []
    for number, (label, ours, theirs) in enumerate(zip(labels, now, reference, strict=True)):
        top = number * row + 4
        parts.append(
            f'<text x="{left - 8}" y="{top + 11}" class="end">{escape(_shortened(label))}</text>'
            f'<rect x="{left}" y="{top + 9}" width="{theirs / most * width:.1f}" height="6" fill="{REFERENCE}"/>'
            f'<rect x="{left}" y="{top + 1}" width="{ours / most * width:.1f}" height="7" fill="{NOW}"/>'
            f'<text x="{left + max(ours, theirs) / most * width + 6:.1f}" y="{top + 11}">{ours:.1%}</text>'
        )
    return _svg(left + width + 60, len(labels) * row + 6, title, parts)


def days(values: Sequence[float], limit: float, title: str, first: str, last: str) -> str:
    """Return columns of PSI by day with the limit as a line."""
    width, height = 410, 70
    frame = _Frame(width - 44, height - 26, 40, 6, 0, max(*values, limit * 1.25))
    step = frame.width / max(len(values), 1)
    line = frame.y(limit)
    parts = [
        f'<rect x="{frame.left + number * step:.1f}" y="{frame.y(value):.1f}" width="{max(step - 1.5, 1):.1f}" '
        f'height="{frame.top + frame.height - frame.y(value):.1f}" fill="{BAD if value > limit else NOW}"/>'
        for number, value in enumerate(values)
    ]
    parts += [
        f'<line x1="{frame.left}" x2="{frame.left + frame.width}" y1="{line:.1f}" y2="{line:.1f}" class="limit"/>',
        f'<text x="{frame.left - 5}" y="{line + 4:.1f}" class="end">{limit:g}</text>',
        f'<text x="{frame.left}" y="{height - 4}">{escape(first)}</text>',
        f'<text x="{frame.left + frame.width}" y="{height - 4}" class="end">{escape(last)}</text>',
    ]
    return _svg(width, height, title, parts)


def expected_and_realized(
    places: Sequence[str], expected: Sequence[Point], realized: Sequence[Point], title: str, *, percent: bool
) -> str:
    """Return the expected values as a line in the band of their intervals, and the realized ones as dots with bars."""
    width, height = 490, 250
    every = [*expected, *realized]
    low, high = min(point.lower for point in every), max(point.upper for point in every)
    room = (high - low) * 0.08 or 0.01
    frame = _Frame(width - 66, height - 48, 56, 8, low - room, high + room)
    x = [frame.left + frame.width * (number + 0.5) / len(places) for number in range(len(places))]

    def at(point: Point) -> float:
        return x[round(point.place)]

    band = [*((at(point), point.upper) for point in expected), *((at(point), point.lower) for point in expected[::-1])]
    middle = [(at(point), point.value) for point in expected]
    parts = [
        *_grid(frame, percent=percent), *_months(frame, places, x, height),
        f'<polygon points="{_path(frame, band)}" fill="{NOW}" opacity=".16"/>',
        f'<polyline points="{_path(frame, middle)}" stroke="{NOW}" class="line"/>',
    ]  # fmt: skip
    parts += [
        f'<line x1="{at(point):.1f}" x2="{at(point):.1f}" y1="{frame.y(point.lower):.1f}" '
        f'y2="{frame.y(point.upper):.1f}" stroke="{BAD}" stroke-width="2"/>'
        f'<circle cx="{at(point):.1f}" cy="{frame.y(point.value):.1f}" r="4" fill="{BAD}"/>'
        for point in realized
    ]
    return _svg(width, height, title, parts)


def curves(named: Sequence[tuple[str, Sequence[float]]], title: str) -> str:
    """Return the curves of cumulative shares by age in months, each named at its end; every curve begins with 0."""
    width, height = 640, 260
    longest = max(len(values) for _, values in named)
    frame = _Frame(width - 136, height - 40, 56, 8, 0, max(max(values) for _, values in named) * 1.05 or 0.01)
    x = [frame.left + frame.width * age / longest for age in range(longest + 1)]
    parts = [*_grid(frame, percent=True)]
    ticks = max(1, longest // 8)
    parts += [
        f'<text x="{x[age]:.1f}" y="{height - 14}" class="middle">{age}</text>' for age in range(0, longest + 1, ticks)
    ]
    parts.append(
        f'<text x="{frame.left + frame.width / 2}" y="{height - 1}" class="middle">months since the decision</text>'
    )
    names = []
    for number, (name, values) in enumerate(named):
        color = _between(number / max(len(named) - 1, 1))
        points = [(x[age], value) for age, value in enumerate([0.0, *values])]
        parts.append(f'<polyline points="{_path(frame, points)}" stroke="{color}" class="line"/>')
        names.append((frame.y(points[-1][1]), points[-1][0], name, color))
    taken: list[tuple[float, float]] = []
    for y, right, name, color in sorted(names):
        place = y + 4
        while any(abs(place - other) < 11 and abs(right - beside) < 46 for other, beside in taken):
            place += 2
        taken.append((place, right))
        parts.append(f'<text x="{right + 5:.1f}" y="{place:.1f}" style="fill:{color}">{escape(name)}</text>')
    return _svg(width, height, title, parts)


def bar(value: float, lower: float, upper: float, limit: float) -> str:
    """Return a distance as a small bar with its bounds, on a scale that ends at four times the limit."""
    width, height = 150, 18
    scale = width / (limit * 4)
    first, end, last = (min(of * scale, width) for of in (lower, value, upper))
    color = BAD if lower > limit else NOW
    return _svg(width + 2, height, f"{value:.3f}, from {lower:.3f} to {upper:.3f}; the limit is {limit:g}", [
        f'<rect x="0" y="5" width="{end:.1f}" height="8" fill="{color}"/>',
        f'<line x1="{first:.1f}" x2="{last:.1f}" y1="9" y2="9" class="bounds"/>',
        f'<line x1="{limit * scale}" x2="{limit * scale}" y1="1" y2="17" class="limit"/>',
    ])  # fmt: skip


def _between(share: float) -> str:
    mixed = (round(old + (new - old) * share) for old, new in zip(_OLDEST, _NEWEST, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _grid(frame: _Frame, *, percent: bool) -> list[str]:
    parts = []
    for step in range(5):
        value = frame.low + (frame.high - frame.low) * step / 4
        y = frame.y(value)
        text = f"{value:.1%}" if percent else f"{value:.3f}"
        parts.append(f'<line x1="{frame.left}" x2="{frame.left + frame.width}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                     f'<text x="{frame.left - 6}" y="{y + 4:.1f}" class="end">{text}</text>')  # fmt: skip
    return parts


def _months(frame: _Frame, places: Sequence[str], x: Sequence[float], height: float) -> list[str]:
    every = max(1, -(-len(places) * 62 // round(frame.width)))
    return [f'<text x="{x[number]:.1f}" y="{height - 16}" class="middle">{escape(places[number])}</text>'
            for number in range(0, len(places), every)]  # fmt: skip


def _path(frame: _Frame, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{frame.y(value):.1f}" for x, value in points)


def _shortened(label: str) -> str:
    return label if len(label) <= 22 else label[:21] + "…"


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
            f"<title>{escape(title)}</title>{''.join(parts)}</svg>")  # fmt: skip
