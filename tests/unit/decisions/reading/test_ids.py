"""Times as ranges of ids, and cursors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.database.id_ranges import FIRST_ID, LAST_ID, first_id, time_of
from decisions.errors import UsageError
from decisions.reading.pages import decode_cursor, encode_cursor

times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis's way


@given(at=times, made=times, rest=st.integers(0, (1 << 80) - 1))
def test_an_id_is_in_a_range_if_its_time_is(at: datetime, made: datetime, rest: int) -> None:
    made = made.replace(microsecond=made.microsecond // 1000 * 1000)
    decision_id = UUID(int=first_id(made).int | rest)
    assert time_of(decision_id) == made
    assert (decision_id >= first_id(at)) == (made >= at)


def test_all_times_and_ids_have_one_another() -> None:
    assert first_id(datetime(1, 1, 1, tzinfo=UTC)) == FIRST_ID
    assert first_id(datetime(9999, 12, 31, tzinfo=UTC)) < LAST_ID
    assert time_of(LAST_ID) == datetime(9999, 12, 31, tzinfo=UTC)
    assert time_of(first_id(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=1))).microsecond == 1000


@given(st.uuids())
def test_a_cursor_says_which_decision_was_last(last: UUID) -> None:
    assert decode_cursor(encode_cursor(last)) == last


@given(st.text(max_size=30))
def test_other_text_is_no_cursor(text: str) -> None:
    try:
        last = decode_cursor(text)
    except UsageError:
        return
    assert encode_cursor(last) == text


@pytest.mark.parametrize("text", ["", "x", "ü", "A" * 21, "A" * 23, "A" * 22 + "==", "A" * 21 + "B"])
def test_cursors_that_are_nearly_right_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a cursor"):
        decode_cursor(text)
