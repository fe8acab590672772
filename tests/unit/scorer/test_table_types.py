"""Columns of Arrow and Parquet of other types than the model's: read if they hold the same values, else refused."""

from __future__ import annotations

import datetime as dt
import decimal
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.applications.arrow import TableSchema, read_columns
from scorer.http.media_types import PARQUET
from scorer.problems import Problem


def read(column: pa.Array) -> list[object]:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"income": column}), buffer)
    return list(read_columns(buffer.getvalue(), PARQUET, TableSchema(numeric=["income"]))["income"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([40], pa.int8()), pa.array([40], pa.uint64()), pa.array([40], pa.float16()),
        pa.array([decimal.Decimal("40.00")]), pa.array(["40"]), pa.array([40]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_any_type_of_number_is_one(column: pa.Array) -> None:
    assert read(column) == [40.0]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([dt.date(2026, 1, 31)]), "Date32"),
        (pa.array([dt.datetime(2026, 1, 31, tzinfo=dt.UTC)]), 'Timestamp(µs, "UTC")'),
        (pa.array([dt.timedelta(1)]), "Duration(µs)"),
        (pa.array([1], pa.time32("ms")), "Time32(ms)"),
        (pa.array([[1.0]]), "List("),
    ],
    ids=["date", "timestamp", "duration", "time", "list"],
)
def test_what_is_no_number_is_refused_even_if_it_could_be_cast(column: pa.Array, kind: str) -> None:
    with pytest.raises(Problem, match="column income has the wrong type") as caught:
        read(column)
    (problem,) = caught.value.errors
    assert problem.problem.startswith(f"is a column of {kind}")
    assert "\n" not in problem.problem
