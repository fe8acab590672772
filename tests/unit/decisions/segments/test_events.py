"""Reading events: what is whole is taken, and what is damaged is told and does not take the rest with it."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.errors import DamagedError
from decisions.segments.events import Event, Shape, decode_events, problem_of
from unit.decisions.golden import PACKED

SHAPES = {1: Shape(3, 1)}
SINGLE, BATCH, SEVERAL = decode_events(PACKED)[0]


def packed(*events: object) -> bytes:
    return msgspec.msgpack.encode(events)


def columns(event: Event) -> list[object]:
    return list(msgspec.structs.astuple(event))


def test_a_whole_event_has_no_problem() -> None:
    assert [problem_of(event, SHAPES) for event in (SINGLE, BATCH, SEVERAL)] == [None] * 3


@pytest.mark.parametrize(
    ("position", "value", "words"),
    [
        (0, b"short", "Expected `bytes` of length >= 16"),
        (1, 7, "Expected `str | array`, got `int`"),
        (3, "boss", "Invalid enum value 'boss'"),
        (3, ["champion", "boss"], "Invalid enum value 'boss'"),
        (6, -1, "Expected `int` >= 0"),
        (9, None, "Expected `bytes`, got `None`"),
    ],
)
def test_a_damaged_event_is_told_and_the_others_are_taken(position: int, value: object, words: str) -> None:
    damaged = columns(SINGLE)
    damaged[position] = value
    events, problems = decode_events(packed(BATCH, damaged, SINGLE))
    assert events == [BATCH, SINGLE]
    (problem,) = problems
    assert problem.startswith("event 1: ")
    assert words in problem


def test_an_event_with_a_part_too_few_or_too_many_is_damaged() -> None:
    events, problems = decode_events(packed(columns(SINGLE)[:-1], [*columns(SINGLE), 1], SINGLE))
    assert events == [SINGLE]
    assert ["array" in problem and "length" in problem for problem in problems] == [True, True], problems


@given(st.binary(max_size=40).filter(lambda text: not text.startswith(b"\x90")))
def test_what_is_no_array_is_damaged_as_a_whole_or_told_by_its_events(noise: bytes) -> None:
    with contextlib.suppress(DamagedError):
        events, problems = decode_events(noise)
        assert not events
        assert problems


@given(st.integers(min_value=0, max_value=len(PACKED) - 1))
def test_a_group_cut_short_is_damaged(length: int) -> None:
    with pytest.raises(DamagedError, match="not an array of events"):
        decode_events(PACKED[:length])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2 is not in the segment"),
        ({"declined": b""}, "it has no decisions"),
        ({"rows": b"\0" * 8}, r"rows has 8 bytes; int32 [3, 1] takes 12"),
        ({"numeric": b""}, "numeric has 0 bytes; float32 [3, 3] takes 36"),
        ({"categorical": b"\0" * 25}, "categorical has 25 bytes; int64 [3, 1] takes 24"),
        ({"probability": b"\0" * 11}, "probability has 11 bytes"),
        ({"points": b"\0" * 16}, "points has 16 bytes"),
        ({"applicant_ids": ["a"]}, "applicant_ids has 1 entries for 3 decisions"),
        ({"reasons": [["R01"]]}, "reasons has 1 entries for 3 decisions"),
        ({"ids": b"\x01" * 8 + b"\xbf" + b"\xff" * 7}, "exceed the random part of a UUIDv7"),
        ({"ids": b"\x01" * 32}, "ids has 32 bytes; 3 of 16 take 48"),
        ({"request_id": ["a", "b"]}, "request_id has 2 entries for 3 decisions"),
        ({"role": ["canary"]}, "role has 1 entries for 3 decisions"),
        ({"client": []}, "client has 0 entries for 3 decisions"),
        ({"latency": b"\0" * 13}, "latency has 13 bytes; int32 [3, 1] takes 12"),
        ({"latency": b"\0" * 11 + b"\x80"}, "a latency is negative"),
    ],
)
def test_an_event_whose_parts_do_not_fit_is_told(changes: dict[str, object], words: str) -> None:
    assert words in (problem_of(msgspec.structs.replace(BATCH, **changes), SHAPES) or "")
