"""The page's pieces: nothing becomes markup, times say when they are, and charts say what they draw."""

from __future__ import annotations

import re

import pytest

from promoter.api.status import Verdict
from promoter.page.charts import check_chart
from promoter.page.html import Html, element, join, text
from promoter.page.pieces import clock, table, with_clocks
from promoter.page.series import Point
from unit.promoter.page_rollouts import START


def test_text_and_attributes_are_escaped_and_markup_is_not_escaped_twice() -> None:
    inner = element("b", "<i>", title='"><script>')
    assert inner == '<b title="&quot;&gt;&lt;script&gt;">&lt;i&gt;</b>'
    assert element("p", inner, [" & ", 7, None, ["'"]]) == f"<p>{inner} &amp; 7&#x27;</p>"


def test_attributes_without_a_value_are_left_out_and_names_are_translated() -> None:
    assert element("li", class_="a", aria_current=None, hidden=False, data_part=True) == '<li class="a" data-part></li>'
    assert element("rect", width="3") == '<rect width="3"/>'


@pytest.mark.parametrize("sign", ["\u202e", "\x00", "\x1b", "\u2028"])
def test_signs_that_are_not_printed_become_visible(sign: str) -> None:
    assert text(f"a{sign}b") == "a\ufffdb"


def test_joined_markup_is_markup() -> None:
    assert isinstance(join("<", element("br")), Html)


def test_a_time_has_its_moment_and_moves_on() -> None:
    assert clock(START - 130, START) == (
        '<time datetime="2027-01-15T07:57:50.000Z" title="2027-01-15 07:57:50 UTC" data-clock="ago">2m10s ago</time>'
    )


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("step 3/4 in 2m58s, if every check is Successful then", 178), ("an analysis in 1h5m", 3900), ("in 18s", 18)],
)
def test_durations_in_an_outlook_move_on(line: str, seconds: int) -> None:
    shown = with_clocks(line, START)
    assert clock(START + seconds, START, "in") in shown
    assert re.sub(r"<[^>]*>", "", shown) == line


@pytest.mark.parametrize("line", ["a pause until resumed", "win 5m", "in 5mm", "version in 5", "<b>"])
def test_other_words_in_an_outlook_stay(line: str) -> None:
    assert with_clocks(line, START) == text(line)


def test_a_table_keeps_its_meaning_when_rows_become_blocks() -> None:
    shown = table("Caption", ("A", "B"), [("<1>", None)])
    assert "<caption>Caption</caption>" in shown
    assert '<th scope="row" role="rowheader">&lt;1&gt;</th><td data-label="B" role="cell">-</td>' in shown


def test_a_chart_shows_the_limit_the_values_and_their_bounds_and_says_so() -> None:
    points = [Point(START + 60 * n, 0.01 * n, 0.005 * n, 0.02 * n, Verdict.INCONCLUSIVE) for n in range(1, 5)]
    shown = check_chart("DecisionShift", points, 0.05)
    assert shown is not None
    assert 'aria-label="DecisionShift over 4 analyses in 3m: 0.01 to 0.04, now 0.04; the limit is 0.05"' in shown
    (line,) = re.findall(r'<polyline class="value" points="([^"]*)"', shown)
    heights = [float(place.split(",")[1]) for place in line.split()]
    limit = float(re.findall(r'y1="([\d.]+)"', shown)[0])
    assert heights == sorted(heights, reverse=True)
    assert limit < heights[-1], "the limit is drawn above what is below it"
    assert len(re.findall(r'<polygon class="band" points="([^"]*)"', shown)[0].split()) == 8


@pytest.mark.parametrize(
    ("points", "limit"),
    [
        ([Point(START, 900.0, None, None, Verdict.FAILED)], 0.05),
        ([Point(START, -1.0, None, None, Verdict.FAILED), Point(START + 1, 0.0, 0.0, 9.0, Verdict.ERROR)], 0.0),
    ],
)
def test_an_outlier_and_a_value_alone_stay_within_the_chart(points: list[Point], limit: float) -> None:
    shown = check_chart("Query", points, limit)
    assert shown is not None
    places = re.findall(r"([\d.-]+),([\d.-]+)", " ".join(re.findall(r'points="([^"]*)"', shown)))
    assert places
    assert all(0 <= float(x) <= 180 and 0 <= float(y) <= 44 for x, y in places)


def test_there_is_no_chart_without_a_value() -> None:
    assert check_chart("Query", [Point(START, None, None, None, Verdict.ERROR)], 1.0) is None
    assert check_chart("Query", [], 1.0) is None
