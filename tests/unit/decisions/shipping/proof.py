"""What must be true of the database after shipping: each decision once, and every log's chain whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from decisions.records.numbers import shortest_of
from decisions.records.record import DecisionInputs, Record, chain_hash
from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter


def assert_each_once(database: DecisionsDatabase, *logs: LogWriter) -> None:
    """Check that the database has the decisions of the logs and no other, in the order in which they were written."""
    rows: Sequence[Any] = database.records()
    assert {row.log_id for row in rows} == {log.log_id for log in logs if log.ids}
    for log in logs:
        own = [row for row in rows if row.log_id == log.log_id]
        assert [row.id for row in own] == log.ids
        assert_chain(own)
    assert database.count("decision_inputs") == len(rows)


def assert_chain(rows: Sequence[Any]) -> None:
    """Check every hash of a log's rows, from its first one on."""
    previous = bytes(32)
    for sequence, row in enumerate(rows, start=1):
        inputs = DecisionInputs(row.applicant_id, bytes(row.salt), _text(row.inputs))
        assert inputs.hash() == bytes(row.inputs_hash)
        columns: dict[str, Any] = {
            name: str(value) if isinstance(value := getattr(row, name), UUID) else value
            for name in Record.__struct_fields__
        }
        columns |= {"probability": shortest_of(row.probability), "inputs_hash": inputs.hash().hex()}
        assert (row.sequence, bytes(row.previous_hash)) == (sequence, previous)
        previous = chain_hash(previous, Record(**columns))
        assert bytes(row.hash) == previous


def _text(inputs: object) -> str:
    """Return a JSON column's text; psycopg has parsed it, and keeps the order of its keys."""
    return msgspec.json.encode(inputs).decode()
