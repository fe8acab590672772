"""CSV as spreadsheets and other programs write it, and files that are not what they claim to be."""

from __future__ import annotations

import codecs

import msgspec
import pytest
from msgspec import UNSET

from scorer.applications.csv_tables import csv_columns
from scorer.contract import Contract
from scorer.problems import Problem
from unit.scorer.contracts import DOCUMENT

CONTRACT = msgspec.convert(DOCUMENT, Contract)
COLUMNS = {"income": [50.5, 7.0], "home": ["own", "rent"]}


@pytest.mark.parametrize(
    "body",
    [
        b"income,home\n50.5,own\n7,rent\n",
        codecs.BOM_UTF8 + b"income,home\n50.5,own\n7,rent\n",
        b"income,home\r\n50.5,own\r\n7,rent\r\n",
        b"income,home\r50.5,own\r7,rent\r",
        b"income;home\n50.5;own\n7;rent\n",
        b"income\thome\n50.5\town\n7\trent\n",
        b"\n\r\nincome,home\n50.5,own\n\n7,rent\n\n",
        b",income,home\n0,50.5,own\n1,7,rent\n",
        b'"income","home"\n"50.5","own"\n"7","rent"',
    ],
    ids=["plain", "BOM", "CRLF", "CR", "semicolons", "tabs", "blank lines", "index without a name", "quoted"],
)
def test_what_programs_write_gives_the_same_columns(body: bytes) -> None:
    assert csv_columns(body, CONTRACT) == COLUMNS


def test_further_columns_are_kept_for_the_caller_to_judge() -> None:
    assert csv_columns(b"fax,income,home\n1;2,3,own\n", CONTRACT) == {"fax": ["1;2"], "income": [3.0], "home": ["own"]}


def test_a_value_may_hold_a_line_break() -> None:
    assert csv_columns(b'income,home\n7,"ow\nn"\n', CONTRACT) == {"income": [7.0], "home": ["ow\nn"]}


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        csv_columns(body, CONTRACT)
    return caught.value


def test_every_row_that_is_too_long_or_too_short_is_named() -> None:
    problem = refusal(b"income,home\n1,own\n2,own,x\n3\n4,own\n")
    assert (problem.status, problem.detail) == (422, "2 of 4 rows are longer or shorter than the header")
    assert [(error.field, error.problem, error.allowed) for error in problem.errors] == [
        ("row 1", "has 3 values", "2, as the header"),
        ("row 2", "has 1 values", "2, as the header"),
    ]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (codecs.BOM_UTF16_LE + "income,home\n1,own\n".encode("utf-16-le"), 400, "it is UTF-16"),
        ("income,home\n1,own\n".encode("utf-16-le"), 400, "it is UTF-16, or no text; send it as UTF-8"),
        ("income,home\n1,own\n".encode("utf-16-be"), 400, "it is UTF-16, or no text; send it as UTF-8"),
        ("income,home\n1,hôtel\n".encode("latin-1"), 400, "byte 0xF4 in line 2; if it is Latin-1"),
        (b'income,home\n1,"own\n', 400, "not CSV in UTF-8"),
        (b"income,home,income\n1,own,2\n", 422, "the column income appears twice"),
        (b"1,own\n2,rent\n", 422, "read with commas, it has none of this model's fields, but 1, own"),
        (b"income|home\n1|own\n", 422, "it has none of this model's fields, but income|home"),
        (b"", 422, "but nothing"),
    ],
    ids=[
        "UTF-16",
        "UTF-16 without a BOM",
        "UTF-16 big endian without a BOM",
        "Latin-1",
        "open quote",
        "column twice",
        "no header",
        "other delimiter",
        "empty",
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(body: bytes, status: int, detail: str) -> None:
    problem = refusal(body)
    assert problem.status == status
    assert detail in problem.detail


@pytest.mark.parametrize("number", ["1,5", "7_0", "\u0667", "5 %", "nan", "n/a"])
def test_text_that_json_would_not_take_as_a_number_stays_text(number: str) -> None:
    assert csv_columns(f'income,home\n"{number}",own\n'.encode(), CONTRACT)["income"] == [number]


@pytest.mark.parametrize("text", ["", "NA", "NaN", "?"])
def test_text_that_means_missing_is_no_value(text: str) -> None:
    assert csv_columns(f'income,home\n"{text}",own\n'.encode(), CONTRACT)["income"] == [UNSET]
