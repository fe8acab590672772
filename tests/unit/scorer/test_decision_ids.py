"""Decision ids: UUIDv7, in the order in which they were made whatever the clock does, with room for a batch's rows."""

from __future__ import annotations

import itertools
import uuid

from hypothesis import given
from hypothesis import strategies as st

from scorer.applications.rows import MAX_ROWS
from scorer.decision_log.ids import ROW_BITS, DecisionIds, octets_of

NOW = 1_795_880_253_740_927_700
# Nanoseconds between two looks at the clock: most in one millisecond, some an hour ahead or back.
STEPS = st.lists(
    st.one_of(st.integers(0, 2_000_000), st.sampled_from([0, -1, -3_600_000_000_000, 3_600_000_000_000])), max_size=60
)


def ids_at(times: list[int]) -> list[uuid.UUID]:
    # Asked when they are created, and for each.
    clock, timer = iter([times[0], *times]), itertools.count()
    ids = DecisionIds(lambda: next(clock), lambda: float(next(timer)))
    made = [ids.next() for _ in times]
    octets = octets_of(made)
    found = [uuid.UUID(bytes=octets[at : at + 16]) for at in range(0, len(octets), 16)]
    assert list(map(str, found)) == made
    return found


def milliseconds(one: uuid.UUID) -> int:
    return one.int >> 80


@given(STEPS)
def test_ids_are_uuids_of_version_7_that_rise_also_when_the_clock_is_set_back(steps: list[int]) -> None:
    times = list(itertools.accumulate(steps, initial=NOW))
    made = ids_at(times)
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert all(before < after for before, after in itertools.pairwise(made))
    # As long as the clock does not go back, the id has the time.
    latest = list(itertools.accumulate((time // 1_000_000 for time in times), max))
    assert [milliseconds(one) for one in made] == latest


def test_ids_run_ahead_of_the_clock_when_a_millisecond_has_no_more() -> None:
    made = ids_at([NOW] * 10_000)
    assert len(set(made)) == 10_000
    assert made == sorted(made)
    assert milliseconds(made[-1]) == NOW // 1_000_000 + 2


@given(st.lists(st.integers(0, 3_000_000), max_size=60))
def test_an_id_has_the_time_although_the_clock_is_asked_once_in_a_millisecond(steps: list[int]) -> None:
    now = asked = 0

    def clock() -> int:
        nonlocal asked
        asked += 1
        return NOW + now

    ids = DecisionIds(clock, lambda: now / 1e9)
    passed = set[int]()
    for step in steps:
        now += step
        passed.add((NOW + now) // 1_000_000)
        late = (NOW + now) // 1_000_000 - milliseconds(uuid.UUID(ids.next()))
        # Seconds as a float are not exact to the nanosecond.
        assert late in ({0} if now % 1_000_000 > 1000 else {0, 1})
    assert asked <= 1 + len(passed)


@given(st.integers(0, 2**ROW_BITS - 1))
def test_the_rows_of_a_batch_have_ids_of_their_own_before_the_next_one(row: int) -> None:
    first, after = ids_at([NOW, NOW])
    assert first <= uuid.UUID(int=first.int + row) < after
    assert (uuid.UUID(int=first.int + row).version, milliseconds(uuid.UUID(int=first.int + row))) == (
        7, milliseconds(first),
    )  # fmt: skip
    assert 2**ROW_BITS > MAX_ROWS


def test_processes_make_different_ids_in_the_same_millisecond() -> None:
    made = {ids_at([NOW])[0] for _ in range(1000)}
    assert len(made) == 1000
