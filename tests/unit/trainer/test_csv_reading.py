"""CSV as other programs and countries write it: the same rows, or a message that says what to do."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trainer.data.declaration import FeatureDeclaration
from trainer.data.problems import InvalidDataError
from trainer.data.reading import RawTable, read_table
from trainer.data.validation import validate
from trainer.errors import BadInputError

AMOUNT = {
    "name": "amount",
    "kind": "numeric",
    "unit": "",
    "minimum": 0,
    "maximum": 1e7,
    "description": "",
    "reason_code": "1",
}
HOME = {"name": "home", "kind": "categorical", "categories": ["own", "rent"], "description": "", "reason_code": "2"}
TARGET = {"column": "bad", "default": 1, "repaid": 0}
PLAIN = "amount,home,bad\n1000.5,own,0\n2000,rent,1\n3,own,0\n"
ROWS: dict[str, list[Any]] = {"amount": [1000.5, 2000.0, 3.0], "home": ["own", "rent", "own"], "bad": [0, 1, 0]}


def declared(amount: Any = None, home: Any = None, target: Any = None, **others: Any) -> FeatureDeclaration:
    document = {"features": [AMOUNT | (amount or {}), HOME | (home or {})], "target": TARGET | (target or {}), **others}
    return FeatureDeclaration.model_validate_json(json.dumps(document))


def read(content: str | bytes, declaration: FeatureDeclaration, folder: Path) -> RawTable:
    file = folder / "loans.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(str(file), declaration, scratch=folder, synthetic_rows=0, seed=0)


def rows_of(content: str | bytes, declaration: FeatureDeclaration, folder: Path) -> dict[str, list[Any]]:
    frame = validate(read(content, declaration, folder), declaration, minimum_rows=1)
    return {name: frame[name].tolist() for name in ("amount", "home", "bad")}


def refusal(content: str | bytes, declaration: FeatureDeclaration, folder: Path) -> str:
    with pytest.raises(BadInputError) as caught:
        validate(read(content, declaration, folder), declaration, minimum_rows=1)
    return str(caught.value)


SPREADSHEET = PLAIN.replace(",", ";").replace(".", ",")


@pytest.mark.parametrize(
    ("content", "file"),
    [
        (PLAIN, {}),
        (codecs.BOM_UTF8 + PLAIN.encode(), {}),
        (PLAIN.replace("\n", "\r\n"), {}),
        (PLAIN.replace("\n", "\r"), {}),
        (PLAIN.replace(",", ";"), {}),
        (PLAIN.replace(",", "\t"), {}),
        (PLAIN.replace(",", "|"), {}),
        (PLAIN.replace(",", " "), {}),
        (PLAIN.replace(",", "~"), {"delimiter": "~"}),
        (SPREADSHEET, {"decimal": ","}),
        ("\n \n,,\n" + PLAIN, {}),
        (PLAIN.replace("\n", "\n\n"), {}),
        (PLAIN.encode("utf-16"), {}),
        (codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"), {}),
        (PLAIN.encode("utf-16-le"), {"encoding": "utf-16-le"}),
        (gzip.compress(SPREADSHEET.encode("utf-16")), {"decimal": ","}),
        (",amount,home,bad\n0,1000.5,own,0\n1,2000,rent,1\n2,3,own,0\n", {}),
        ("amount,home,bad\n1000.5,own,0,\n2000,rent,1,\n3,own,0,\n", {}),
        (PLAIN.split("\n", 1)[1], {"columns": ["amount", "home", "bad"]}),
        ("\n" + SPREADSHEET.split("\n", 1)[1], {"columns": ["amount", "home", "bad"], "decimal": ","}),
        (" amount,home , bad\n1000.5, own,0\n2000,rent ,1 \n3,own,0\n", {"trim": True}),
        ("amount,home,bad\n 1000.5 ,own,0\n2000.0,rent,1\n+3,own,0", {}),
        ('"amount","home","bad"\n"1000.5","own","0"\n"2e3","rent","1"\n"3","own","0"\n', {}),
        ('note,amount,home,bad\n"a\nb, ""c""",1000.5,own,0\n,2000,rent,1\n"",3,own,0\n', {}),
    ],
    ids=[
        "plain", "BOM", "CRLF", "CR", "semicolons", "tabs", "bars", "spaces", "declared delimiter", "decimal comma",
        "blank first lines", "blank lines", "UTF-16", "UTF-16 big endian", "UTF-16 without a BOM", "all of it, gzipped",
        "index of pandas", "last delimiter", "headerless", "headerless, blank first line", "trimmed",
        "spaces around numbers", "quoted", "quoted line break",
    ],
)  # fmt: skip
def test_what_other_programs_write_gives_the_same_rows(content: str | bytes, file: Any, tmp_path: Path) -> None:
    assert rows_of(content, declared(file=file), tmp_path) == ROWS


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "iso8859-15", "utf-16", "utf-8-sig"])
def test_an_encoding_is_read_by_its_name(encoding: str, tmp_path: Path) -> None:
    content = PLAIN.replace("rent", "hôtel").encode(encoding)
    declaration = declared(home={"categories": ["own", "hôtel"]}, file={"encoding": encoding})
    assert rows_of(content, declaration, tmp_path)["home"] == ["own", "hôtel", "own"]


@pytest.mark.parametrize(
    ("parse", "cells", "expected"),
    [
        ({}, ["5.0", "7", "1e3"], [5.0, 7.0, 1000.0]),
        ({}, ["true", "no", "Yes"], [1.0, 0.0, 1.0]),
        ({}, ["True", "False", "True"], [1.0, 0.0, 1.0]),
        ({"parse": "percent"}, ["13.5%", "7 %", "0.5"], [13.5, 7.0, 0.5]),
        ({"parse": "months"}, [" 36 months", "2 years", "1yrs 11mon"], [36.0, 24.0, 23.0]),
        ({"parse": "months"}, ["60", "1 month", "1 yr. 6 mos."], [60.0, 1.0, 18.0]),
        ({"parse": "thousands"}, ["1,234.5", "$1,234,567.00", "999"], [1234.5, 1234567.0, 999.0]),
        ({"parse": "thousands"}, ["1 234", "1'234'567", "€ 12"], [1234.0, 1234567.0, 12.0]),
        ({"parse": "thousands", "minimum": -1e7}, ["(1,234)", "($5.50)", "\u22121,234"], [-1234.0, -5.5, -1234.0]),
        ({"minimum": -9}, ["\u22121.5", "-1.5", "2"], [-1.5, -1.5, 2.0]),
        ({"parse": "date", "reference_date": "2026-03-15"}, ["2025-03-15", "2025-03-16", "2026-02"], [12.0, 11.0, 1.0]),
        ({"parse": "date", "reference_date": "2026-03-15", "date_format": "%b-%Y"},
         ["Dec-2015", "Jan-2026", "Mar-2026"], [123.0, 2.0, 0.0]),
    ],
)  # fmt: skip
def test_a_declared_column_is_parsed(parse: Any, cells: list[str], expected: list[float], tmp_path: Path) -> None:
    lines = [f'"{cell}",{home},{bad}' for cell, home, bad in zip(cells, ROWS["home"], ROWS["bad"], strict=True)]
    content = "\n".join(["amount,home,bad", *lines])
    assert rows_of(content, declared(amount=parse), tmp_path)["amount"] == expected


def test_groups_of_digits_beside_a_decimal_comma(tmp_path: Path) -> None:
    declaration = declared(amount={"parse": "thousands"}, file={"decimal": ","})
    content = "amount;home;bad\n1.000,5;own;0\n2.000;rent;1\n3;own;0\n"
    assert rows_of(content, declaration, tmp_path) == ROWS


def test_ages_are_taken_at_the_date_of_each_row(tmp_path: Path) -> None:
    declaration = declared(amount={"parse": "date", "reference_date": "issued"})
    rows = ["2020-01-31,2021-01-30,own,0", "2020-01-31,2021-01-31,rent,1", "1999-12-31,2000-01-31,own,0"]
    content = "\n".join(["amount,issued,home,bad", *rows])
    assert rows_of(content, declaration, tmp_path)["amount"] == [11.0, 12.0, 1.0]


@pytest.mark.parametrize(
    ("declared_as", "cells", "expected"),
    [
        (["1", "2"], ["1", "2", "1"], ["1", "2", "1"]),
        ([1, 2], ["1", "2", "1"], ["1", "2", "1"]),
        ([1, 2], ["1.0", "2.0", "1.0"], ["1", "2", "1"]),
        ([-1, 2.5], ["-1", "2.5", "-1.00"], ["-1", "2.5", "-1"]),
        (["01", "1"], ["01", "1", "01"], ["01", "1", "01"]),
        ([True, False], ["True", "False", "true"], ["true", "false", "true"]),
        (["True", "False"], ["True", "False", "True"], ["True", "False", "True"]),
        (["yes", "no"], ["yes", "no", "yes"], ["yes", "no", "yes"]),
        (["None", "-"], ["None", "-", "-"], ["None", "-", "-"]),
    ],
)
def test_categories_are_text_whatever_they_look_like(
    declared_as: list[Any], cells: list[str], expected: list[str], tmp_path: Path
) -> None:
    lines = [f"5,{cell},{bad}" for cell, bad in zip(cells, ROWS["bad"], strict=True)]
    content = "\n".join(["amount,home,bad", *lines])
    assert rows_of(content, declared(home={"categories": declared_as}), tmp_path)["home"] == expected


@pytest.mark.parametrize(
    ("categories", "values", "expected"),
    [
        ([1, 2], [1, 2, 1], ["1", "2", "1"]),
        ([1, 2], [1.0, 2.0, 1.0], ["1", "2", "1"]),
        ([True, False], [True, False, True], ["true", "false", "true"]),
        (["True", "False"], [True, False, True], ["True", "False", "True"]),
        (["own", "rent"], pd.Categorical(["own", "rent", "own"]), ["own", "rent", "own"]),
    ],
    ids=["integers", "floats", "booleans", "booleans by Python's words", "dictionary"],
)
def test_parquet_holds_categories_of_any_type(
    categories: list[Any], values: Any, expected: list[str], tmp_path: Path
) -> None:
    frame = pd.DataFrame({"amount": [1, 2, 3], "home": values, "bad": [False, True, False]})
    frame.to_parquet(tmp_path / "loans.parquet")
    declaration = declared(home={"categories": categories})
    table = read_table(str(tmp_path / "loans.parquet"), declaration, scratch=tmp_path, synthetic_rows=0, seed=0)
    found = validate(table, declaration, minimum_rows=1)
    assert (found["home"].tolist(), found["bad"].tolist()) == (expected, [0, 1, 0])


def test_dates_of_parquet_become_ages(tmp_path: Path) -> None:
    dates = pd.to_datetime(["2025-01-15", "2025-12-31", "2024-01-01"])
    frame = pd.DataFrame({"amount": dates, "home": ["own", "rent", "own"], "bad": [0, 1, 0]})
    frame.to_parquet(tmp_path / "loans.parquet")
    declaration = declared(amount={"parse": "date", "reference_date": "2026-01-01", "date_format": "%d.%m.%Y"})
    table = read_table(str(tmp_path / "loans.parquet"), declaration, scratch=tmp_path, synthetic_rows=0, seed=0)
    assert validate(table, declaration, minimum_rows=1)["amount"].tolist() == [11.0, 0.0, 24.0]


@pytest.mark.parametrize(
    ("target", "cells", "expected"),
    [
        ({"default": "1", "repaid": "0"}, ["0.0", "1.0", "0.0"], [0, 1, 0]),
        ({"default": 1, "repaid": 0}, ["false", "true", "False"], [0, 1, 0]),
        ({"default": 2, "repaid": 1}, ["1", "2", "1"], [0, 1, 0]),
        ({"default": "bad", "repaid": "good"}, ["good", "bad", "good"], [0, 1, 0]),
        ({"default": ["Charged Off", "Default"], "repaid": "Fully Paid", "ignored": ["Current", "Late"]},
         ["Fully Paid", "Default", "Late"], [0, 1]),
    ],
)  # fmt: skip
def test_outcomes_have_the_labels_that_are_declared(
    target: Any, cells: list[str], expected: list[int], tmp_path: Path
) -> None:
    content = "\n".join(["amount,home,bad", *(f"5,own,{cell}" for cell in cells)])
    assert rows_of(content, declared(target=target), tmp_path)["bad"] == expected


def test_rows_with_an_open_outcome_are_counted_and_need_not_be_valid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trainer")
    content = "amount,home,bad\nx,y,Current\n5,own,good\n5,,Current\n5,own,Late\n6,rent,bad\n-1,own,good\n"
    declaration = declared(target={"default": "bad", "repaid": "good", "ignored": ["Current", "Late"]})
    assert "column amount: outside 0 to 1e+07  (such as -1.0): 1 rows: 6" in refusal(content, declaration, tmp_path)
    assert "dropped 3 of 6 rows with an open outcome: Current 2, Late 1" in caplog.text


@pytest.mark.parametrize("token", ["", "NA", "N/A", "NaN", "null", "NULL", "None", "-", "?", "."])
def test_cells_without_a_value_are_missing_in_every_kind_of_column(token: str, tmp_path: Path) -> None:
    table = read(PLAIN.replace("2000,rent,1", ",".join([token] * 3)), declared(), tmp_path)
    assert table.frame.isna().to_numpy().tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("amount,home,bad\n1,own,0\n2,rent,x,1\n3\n4,own,0\n",
         "the header has 3 columns, but rows have more or fewer fields (such as 4 fields, 1 field): 2 rows: 2, 3"),
        ("amount,home,bad\n1,own,0,9\n2,rent,1,7\n", "if the first field is a row number, begin the header with"),
        ("amount,home,bad\n1,own,0\n2,\"rent,1\n3,own,0\n", "the row that begins in line 3: unexpected end of data"),
        ("amount,home,bad\n1,own,0\n2,hôtel,1\n".encode("latin-1"), "byte 0xF4 in line 3; if it is Latin-1"),
        (PLAIN.encode("utf-16-le"), 'if it is UTF-16, declare "file": {"encoding": "utf-16-le"}'),
        ("1,own,0\n2,rent,1\n", 'Read as 3 columns separated by commas: 1, own, 0. If the file has no header, declare'),
        (PLAIN.replace(",", "^"), 'Read as 1 columns separated by commas: amount^home^bad. If that is several columns'),
        ("Amount,HOME,Bad\n1,own,0\n", "the data has 'Amount' for 'amount', 'HOME' for 'home', 'Bad' for 'bad'"),
        ("x,y,z\na,b,c\n", "Is it the right file, and the right feature declaration (--features)?"),
        ("Amount,home,bad\n1,own,0\n2,rent,1\n",
         "column amount: column is missing; the data has 'Amount': rename the column, or the declared one"),
        (" amount,home,bad\n1,own,0\n2,rent,1\n",
         "column amount: column is missing; the data has ' amount': declare \"file\": {\"trim\": true}"),
        ("amount,home,bad", "0 rows are too few"),
        ("\n\n \n", "the file is empty"),
        ("amount,home,home,bad\n1,own,own,0\n", "duplicate column: home"),
        ("amount,home,bad\n1, own,0\n2,rent,1\n", 'they differ only by spaces: declare "file": {"trim": true}'),
        ("amount,home,bad\n1,Own,0\n2,rent,1\n", "is Own meant to be own?"),
        ('amount,home,bad\n13.5%,own,0\n2%,rent,1\n', 'declare "parse": "percent" for it'),
        ('amount,home,bad\n36 months,own,0\n2,rent,1\n', 'declare "parse": "months" for it'),
        ('amount,home,bad\n"1,234.5",own,0\n2,rent,1\n', 'declare "parse": "thousands" for it'),
        ('amount;home;bad\n12,5;own;0\n2;rent;1\n', 'a decimal comma, declare "file": {"decimal": ","}'),
        ('amount,home,bad\n2026-01-31,own,0\n2025-01-31,rent,1\n', 'declare "parse": "date" with a "reference_date"'),
        ("amount,home,bad\n1,own,Current\n2,rent,1\n", 'whose outcome is open under "ignored" in the declared target'),
        (b"PK\x03\x04junk", "a zip archive, or an Excel or OpenDocument file: unzip it, or save the sheet as CSV"),
        (b'  [{"amount": 1}]', "JSON: convert it to CSV or Parquet"),
        (b"<!DOCTYPE html><html></html>", "a web page, such as a login page"),
        (b"\x28\xb5\x2f\xfdjunk", "compressed by zstd: decompress it, or use gzip"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_what_to_do(content: str | bytes, message: str, tmp_path: Path) -> None:
    found = refusal(content, declared(), tmp_path)
    assert message in found
    assert len(found) < 700


def test_no_column_found_is_one_problem_whose_rows_were_not_counted(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError) as caught:
        read("a;b\n1;2\n", declared(), tmp_path)
    assert json.loads(caught.value.to_json())["rows"] is None
    assert "1 problem\n" in str(caught.value)


def test_a_header_beside_declared_columns_is_told(tmp_path: Path) -> None:
    message = refusal(PLAIN, declared(file={"columns": ["amount", "home", "bad"]}), tmp_path)
    assert 'its first line is a header; remove "columns"' in message


def test_dates_of_another_format_are_told(tmp_path: Path) -> None:
    declaration = declared(amount={"parse": "date", "reference_date": "2026-01-01"})
    message = refusal("amount,home,bad\n31.12.2025,own,0\n2025-01-01,rent,1\n", declaration, tmp_path)
    assert "column amount: no date (such as 31.12.2025): 1 rows: 1; dates are read as ISO 8601" in message


def test_a_line_break_in_a_value_far_below_is_read(tmp_path: Path) -> None:
    plain, rows = "12345.25,own,0,\n", 80_000
    content = "amount,home,bad,note\n" + plain * rows + '1,rent,1,"a\nb"\n' + plain
    found = rows_of(content, declared(), tmp_path)
    assert (len(found["home"]), found["amount"][rows : rows + 2]) == (rows + 2, [1.0, 12345.25])


def test_a_quote_that_is_never_closed_far_below_is_told(tmp_path: Path) -> None:
    content = "amount,home,bad,note\n" + "12345.25,own,0,\n" * 80_000 + '1,rent,1,"a\n' + "12345.25,own,0,\n" * 3
    assert "the row that begins in line 80002: unexpected end of data" in refusal(content, declared(), tmp_path)
