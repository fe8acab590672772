"""The report as a page: one file that asks nobody for anything, and says first what people should know."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from decisions.drift.document import DriftReport
from decisions.drift.page import page

_VOID = {"meta", "br"}


class _Reader(HTMLParser):
    """Checks that elements are closed in their order, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attributes if name in {"href", "src", "srcset", "action"}]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(report: DriftReport) -> _Reader:
    reader = _Reader()
    reader.feed(page(report))
    assert not reader.open
    return reader


def test_the_page_is_one_file_without_scripts(report: DriftReport) -> None:
    found = read(report)
    assert all(address.startswith("#") for address in found.addresses)
    assert not {"script", "img", "link", "iframe", "object"} & found.tags
    assert not re.search(r"url\(|@import", page(report))
    assert len(page(report)) < 300_000


def test_plain_words_come_first(report: DriftReport) -> None:
    text = " ".join(" ".join(read(report).text).split())
    places = [
        text.index(words)
        for words in (
            report.headline,
            "What changed",
            "What to do",
            "its bounds and the limit",
            "expected, if the probabilities are right",
        )
    ]
    assert places == sorted(places)
    for words in ("Since when May 14, 2026", "SR 26-2", "Regulation B", "Adverse-impact ratio", "Jeffreys"):
        assert words in text, words


def test_texts_of_applications_are_no_markup(report: DriftReport) -> None:
    document: dict[str, Any] = report.model_dump()
    evil = '<script>alert("1")</script>'
    document["model"] = document["features"][0]["bins"][0]["label"] = document["headline"] = evil
    document["features"][0]["description"] = document["segments"][0]["groups"][0]["value"] = evil
    text = page(DriftReport.model_validate(document))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize("part", ["features", "segments", "months", "performance", "findings", "named_reasons"])
def test_a_report_without_a_part_is_a_page(report: DriftReport, part: str) -> None:
    read(report.model_copy(update={part: [], "score": None, "reasons": None, "compared_since": None}))
