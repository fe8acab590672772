"""What becomes of an event's numbers, codes and texts."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.errors import DamagedError
from decisions.records.build import Link, Scorer, SeededEvent, problem_of_values, records_of
from decisions.records.contract import read_contract
from decisions.records.numbers import shortest, shortest_of, shortest_or_missing
from decisions.records.record import ChainedRecord
from decisions.segments.events import Event
from unit.decisions.golden import LOG_ID, POD, SEED, model_version, seeded_events

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
CONTRACT = read_contract(model_version().contract)


def built(events: Sequence[SeededEvent]) -> list[ChainedRecord]:
    return list(records_of(events, POD, LOG_ID.bytes, Link()))


def batch_with(**changes: object) -> SeededEvent:
    """The golden batch of three rows, changed."""
    seeded = seeded_events()[1]
    return SeededEvent(msgspec.structs.replace(seeded.event, **changes), SEED, seeded.scorer)


@given(st.lists(FLOATS, min_size=1))
def test_a_number_is_written_as_a_decimal_that_is_the_same_float32(values: list[float]) -> None:
    written = [float(msgspec.json.encode(number)) for number in shortest(np.array(values, "<f4"))]
    assert [np.float32(number) for number in written] == values


@given(FLOATS)
def test_no_decimal_with_fewer_digits_is_the_same_float32(value: float) -> None:
    digits = len(f"{shortest_of(value):.17e}".partition("e")[0].replace(".", "").strip("-0"))
    digits = min(digits, len(repr(shortest_of(value)).partition("e")[0].replace(".", "").strip("-0")))
    with np.errstate(over="ignore"):  # fewer digits may round beyond the greatest float32
        assert all(np.float32(f"{value:.{fewer - 1}e}") != np.float32(value) for fewer in range(1, digits))


@given(FLOATS)
def test_a_number_of_the_database_is_written_as_the_event_was(value: float) -> None:
    (written,) = shortest(np.array([value], "<f4"))
    assert shortest_of(value) == shortest_of(written) == written


def test_a_missing_number_is_none() -> None:
    assert shortest_or_missing(np.array([0.1, np.nan], "<f4")) == [0.1, None]


def test_rows_keep_the_order_of_their_events_when_two_versions_score_at_once() -> None:
    single, batch, several = seeded_events()
    next_version = Scorer(dataclasses.replace(single.scorer.version, version="8"))
    other = dataclasses.replace(single, scorer=next_version)
    events = [batch, other, several, single, batch]
    records = [record.record for record in built(events)]
    assert [UUID(records[place].id).bytes for place in (0, 3, 4, 6, 7)] == [seeded.event.ids[:16] for seeded in events]
    assert [record.model_version == next_version.id for record in records] == [place == 3 for place in range(10)]
    assert [record.sequence for record in records] == list(range(1, 11))


def test_a_text_that_postgres_cannot_store_is_stored_without_its_nul() -> None:
    records = built([batch_with(applicant_ids=["a\0b", "", None], request_id="\0")])
    assert [record.inputs.applicant_id for record in records] == ["a\ufffdb", "", None]
    assert records[0].record.request_id == "\ufffd"
    assert records[0].inputs.hash().hex() == records[0].record.inputs_hash


def test_rows_without_numbers_are_counted_from_0() -> None:
    assert [record.record.row for record in built([batch_with(rows=None)])] == [0, 1, 2]


def test_a_model_without_a_master_scale_gives_no_grade() -> None:
    document = json.loads(model_version().contract)
    assert read_contract(json.dumps({**document, "grades": []}).encode()).grades_of(np.zeros(2, "<f4")) == [None, None]
    del document["grades"]
    assert read_contract(json.dumps(document).encode()).grades_of(np.zeros(1, "<f4")) == [None]


def test_a_grade_ends_before_its_upper_probability_and_the_worst_includes_1() -> None:
    assert CONTRACT.grades_of(np.array([0, 0.25, 1], "<f4")) == ["A", "C", "C"]
    document = json.loads(model_version().contract)
    document["grades"][1]["upper_probability"] = 0.25
    below = np.nextafter(np.float32(0.25), np.float32(0))
    assert read_contract(json.dumps(document).encode()).grades_of(np.array([below, 0.25], "<f4")) == ["B", "C"]


@pytest.mark.parametrize("document", [b"", b"{}", b'{"features": []}', b'{"features": [{"kind": "numeric"}]}', b"\xff"])
def test_what_is_no_contract_is_refused_in_words(document: bytes) -> None:
    with pytest.raises(DamagedError, match="not a model contract"):
        read_contract(document)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probability": np.array([0, 1, 1.5], "<f4").tobytes()}, "a probability is not between 0 and 1"),
        ({"probability": np.array([0, math.nan, 1], "<f4").tobytes()}, "a probability is not between 0 and 1"),
        ({"numeric": np.array([1] * 8 + [-math.inf], "<f4").tobytes()}, "a numeric value is infinite"),
        ({"declined": b"\0\2\1"}, "declined is neither 0 nor 1"),
        ({"categorical": np.array([0, 5, 1], "<i8").tobytes()}, "a code of a category is outside"),
        ({"categorical": np.array([0, -1, 1], "<i8").tobytes()}, "a code of a category is outside"),
    ],
)
def test_values_that_no_model_has_are_told(changes: dict[str, bytes], words: str) -> None:
    event: Event = batch_with(**changes).event
    assert words in (problem_of_values(event, CONTRACT) or "")
    assert problem_of_values(batch_with().event, CONTRACT) is None
