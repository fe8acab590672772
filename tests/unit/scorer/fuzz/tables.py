"""Arrow and Parquet: tables of many column types with what each row must be answered, and their bytes spoiled."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unit.scorer.fuzz.documents import BATCH, Shot, spoil
from unit.scorer.fuzz.oracle import Oracle
from unit.scorer.fuzz.wire import Answer, Request

ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
NUMBER_TYPES = [pa.float64(), pa.float64(), pa.float32(), pa.decimal128(20, 4)]
WORD_TYPES = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()),
              pa.dictionary(pa.int8(), pa.string())]  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table's bytes, and its rows."""

    media_type: str
    body: bytes
    rows: Sequence[Mapping[str, Any]]


class Tables:
    """A stock of tables, and shots from them."""

    def __init__(self, oracle: Oracle, applicants: Sequence[Mapping[str, Any]], dice: random.Random) -> None:
        self._oracle = oracle
        self._stock = [self._table(applicants, dice) for _ in range(60)]

    def shot(self, dice: random.Random) -> Shot:
        """Return a table as it is, with its bytes spoiled, or under the name of another format."""
        table = dice.choice(self._stock)
        kind = dice.random()
        if kind < 0.3:
            request = Request("POST", BATCH, table.body, {"Content-Type": table.media_type})
            return Shot(request, lambda answer: self._check(table, answer))
        media_type = dice.choice([ARROW_STREAM, ARROW_FILE, PARQUET]) if kind < 0.35 else table.media_type
        body = spoil(table.body, dice, most=6) if kind > 0.35 else table.body
        return Shot(Request("POST", BATCH, body, {"Content-Type": media_type}), self._plausible)

    def _table(self, applicants: Sequence[Mapping[str, Any]], dice: random.Random) -> Table:
        rows = [dict(dice.choice(applicants)) for _ in range(dice.choice([0, 1, 3, 50]))]
        for row in rows:
            if dice.random() < 0.1:
                row[dice.choice(self._oracle.names)] = None
        words = {feature["name"] for feature in self._oracle.categorical}
        arrays: dict[str, pa.Array] = {}
        for name in self._oracle.names:
            chosen = dice.choice(WORD_TYPES if name in words else NUMBER_TYPES)
            values = pa.array([row[name] for row in rows], pa.string() if name in words else pa.float64())
            arrays[name] = values.cast(chosen) if not pa.types.is_decimal(chosen) else _decimals(values, chosen)
            # As the column holds it: a float32 is another number.
            numbers = arrays[name].cast(pa.float64() if name not in words else pa.string()).to_pylist()
            for row, value in zip(rows, numbers, strict=True):
                row[name] = value
        table, media_type = pa.table(arrays), dice.choice([ARROW_STREAM, ARROW_FILE, PARQUET])
        return Table(media_type, _encode(table, media_type, dice), rows)

    def _check(self, table: Table, answer: Answer) -> str:
        if answer.status != 200:
            return f"status {answer.status} for a table: {answer.body[:300]!r}"
        if answer.headers["content-type"] != table.media_type:
            return f"answered as {answer.headers['content-type']}"
        found = _decode(answer.body, table.media_type)
        if len(found) != len(table.rows):
            return f"{len(found)} rows of {len(table.rows)}"
        for row, result in zip(table.rows, found, strict=True):
            refused = result["problem"] is not None
            if complaint := self._oracle.complaint(row, None if refused else result):
                return complaint
        return ""

    @staticmethod
    def _plausible(answer: Answer) -> str:
        if answer.status != 200:
            return "" if answer.status in {400, 413, 422} else f"status {answer.status}"
        found = _decode(answer.body, answer.headers["content-type"])
        scores = [row["probability_of_default"] for row in found if row["problem"] is None]
        return "" if all(0 <= score <= 1 for score in scores) else f"scores {scores}"


def _decimals(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.compute.round(values, 4).cast(kind)


def _encode(table: pa.Table, media_type: str, dice: random.Random) -> bytes:
    buffer = io.BytesIO()
    if media_type == PARQUET:
        pq.write_table(
            table, buffer, compression=dice.choice(["none", "snappy", "zstd", "gzip"]), row_group_size=20,
            use_dictionary=dice.random() < 0.5, data_page_version=dice.choice(["1.0", "2.0"]),
        )  # fmt: skip
    else:
        new = pa.ipc.new_file if media_type == ARROW_FILE else pa.ipc.new_stream
        options = pa.ipc.IpcWriteOptions(compression=dice.choice([None, "lz4", "zstd"]))
        with new(buffer, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=20)
    return buffer.getvalue()


def _decode(body: bytes, media_type: str) -> list[dict[str, Any]]:
    if media_type == PARQUET:
        return list(pq.read_table(io.BytesIO(body)).to_pylist())
    reader = pa.ipc.open_file(body) if media_type == ARROW_FILE else pa.ipc.open_stream(body)
    return list(reader.read_all().to_pylist())
