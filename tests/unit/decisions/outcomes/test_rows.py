"""Any row at all is taken or rejected in words; any bytes at all are rows or refused in words."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from decisions.errors import UsageError
from decisions.outcomes.formats import CSV, JSON, NDJSON, read_rows
from decisions.outcomes.rows import FIELDS, OUTCOMES, RawRow, RejectedRowError, read_row

NOW = datetime(2026, 6, 1, tzinfo=UTC)
values: st.SearchStrategy[Any] = (
    st.text(max_size=40) | st.none() | st.integers() | st.floats() | st.sampled_from(OUTCOMES) | st.lists(st.integers())
    | st.uuids().map(str) | st.datetimes().map(datetime.isoformat) | st.dates().map(str)
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), values))
def test_a_row_is_taken_or_rejected(row: dict[str, Any]) -> None:
    try:
        read = read_row(RawRow(1, row), NOW)
    except RejectedRowError as error:
        words = str(error)
    else:
        words = ""
        assert read.outcome in OUTCOMES
        assert read.observed_at.tzinfo is not None
    assert len(words) < 400


@given(st.binary(max_size=200), st.sampled_from([CSV, JSON, NDJSON]))
def test_bytes_are_rows_or_refused(body: bytes, kind: str) -> None:
    try:
        rows = list(read_rows(io.BytesIO(body), kind))
    except UsageError:
        return
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.sampled_from([",", ";", "\t"]))
def test_csv_with_quotes_and_line_ends_in_values_is_read_as_it_was_written(names: list[str], delimiter: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["applicant_id", "outcome"])
    writer.writerows([name, "open"] for name in names)
    rows = list(read_rows(io.BytesIO(text.getvalue().encode("utf-8", "replace")), CSV))
    assert [row.values["applicant_id"] for row in rows] == [name.encode("utf-8", "replace").decode() for name in names]
