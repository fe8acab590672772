"""Small parts that all pages use: marks, times, tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from promoter.api.timestamps import to_text
from promoter.page.html import Content, Html, element, join, text
from promoter.words.marks import Mark
from promoter.words.times import duration, in_words

ABSENT = "-"
_SIZES = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_IN = re.compile(r"\bin ((?:\d+[dhms]){1,2})(?![\w])")


def marked(mark: Mark, words: str, class_: str = "mark") -> Html:
    """Return words with their sign; a screen reader gets the words alone."""
    sign = element("span", mark.sign, class_="sign", aria_hidden="true")
    return element("span", sign, " ", words, class_=f"{class_} {mark.tone}")


def clock(at: float, now: float, show: Literal["ago", "for", "in"] = "ago") -> Html:
    """Return a time relative to now; the script moves it on, and without it the title still says when it is."""
    words = {
        "ago": f"{duration(now - at)} ago",
        "for": f"for {duration(now - at)}",
        "in": in_words(at - now),
    }[show]
    return element("time", words, datetime=to_text(at), title=utc(at), data_clock=show)


def utc(at: float) -> str:
    """Return a time to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def with_clocks(line: str, now: float) -> Html:
    """Return a line in which durations such as `in 2m58s` move on."""
    parts: list[Html] = []
    end = 0
    for found in _IN.finditer(line):
        seconds = sum(int(count) * _SIZES[unit] for count, unit in re.findall(r"(\d+)([dhms])", found[1]))
        parts += [text(line[end : found.start()]), clock(now + seconds, now, "in")]
        end = found.end()
    return join(parts, line[end:])


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Content]], class_: str = "") -> Html:
    """Return a table whose first column heads its rows.

    On a narrow screen the style sheet shows each row as a block, which would take the table's meaning from a screen
    reader; hence the roles.
    """
    head = element("tr", (element("th", name, scope="col", role="columnheader") for name in columns), role="row")
    body = (element("tr", _cells(columns, row), role="row") for row in rows)
    return element(
        "table",
        element("caption", caption),
        element("thead", head, role="rowgroup"),
        element("tbody", body, role="rowgroup"),
        class_=class_ or None, role="table",
    )  # fmt: skip


def _cells(columns: Sequence[str], row: Sequence[Content]) -> Iterable[Html]:
    for index, (name, cell) in enumerate(zip(columns, row, strict=True)):
        shown = ABSENT if cell is None or cell == "" else cell
        if index:
            yield element("td", shown, data_label=name, role="cell")
        else:
            yield element("th", shown, scope="row", role="rowheader")


def section(name: str, title: str, *content: Content) -> Html:
    """Return a part of a page with a heading; the script replaces it as a whole when it changes."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title", data_part=True)


def facts(pairs: Iterable[tuple[str, Content]]) -> Html:
    """Return names with their values."""
    return element("dl", (join(element("dt", name), element("dd", value)) for name, value in pairs))
