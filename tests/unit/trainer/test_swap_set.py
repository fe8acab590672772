"""Swap sets: the four parts of the rows by two models' decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.default_rates import Rate
from trainer.evaluation.swap_set import compare_decisions


def test_each_model_decides_at_its_own_threshold() -> None:
    #                    both     in    out       neither
    champion = np.array([0.1, 0.2, 0.5, 0.1, 0.29, 0.3, 0.9])
    challenger = np.array([0.1, 0.3, 0.3, 0.4, 0.5, 0.4, 0.9])
    target = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    found = compare_decisions(
        target, champion, challenger, version="7", champion_threshold=0.3, challenger_threshold=0.4
    )
    assert found.cells == {
        "approved_by_both": Rate(2, 1, 2),
        "swapped_in": Rate(1, 0, 1),
        "swapped_out": Rate(2, 2, 2),
        "declined_by_both": Rate(2, 1, 2),
    }
    assert (found.champion, found.champion_threshold, found.challenger_threshold) == ("7", 0.3, 0.4)


@given(st.integers(1, 100), st.integers(0, 10**6), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_the_parts_make_up_all_rows_and_a_model_swaps_nobody_with_itself(
    rows: int, seed: int, first: float, second: float
) -> None:
    rng = np.random.default_rng(seed)
    target, champion, challenger = rng.integers(0, 2, rows).astype(float), rng.random(rows), rng.random(rows)
    swaps = compare_decisions(
        target, champion, challenger, version="1", champion_threshold=first, challenger_threshold=second
    ).cells
    assert sum(rate.rows for rate in swaps.values()) == rows
    assert sum(rate.defaults for rate in swaps.values()) == target.sum()
    same = compare_decisions(
        target, champion, champion, version="1", champion_threshold=first, challenger_threshold=first
    )
    assert same.swapped_in == same.swapped_out == Rate(0, 0, 0)


def test_rows_count_as_many_loans_as_they_stand_for() -> None:
    target, probability = np.array([1.0, 0.0]), np.array([0.1, 0.2])
    found = compare_decisions(
        target, probability, probability, np.array([1.0, 4.0]), version="1", champion_threshold=0.3,
        challenger_threshold=0.3,
    )  # fmt: skip
    assert found.approved_by_both.rows == 2
    assert found.approved_by_both.value == pytest.approx(0.2)
