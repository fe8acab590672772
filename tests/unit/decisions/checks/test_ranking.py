"""Expected and realized AUC against direct counts, their variances against repetition, and degenerate scores."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.checks.ranking import Scores, brier, expected_auc, realized_auc

Numbers = npt.NDArray[np.float64]


def scores_of(pds: Numbers, defaulted: Numbers | None = None) -> Scores:
    """Count PDs by bins as the database does, in exact bins."""
    values, places = np.unique(pds, return_inverse=True)
    outcomes = np.zeros(len(pds)) if defaulted is None else defaulted
    count = np.bincount(places).astype(float)
    bad = np.bincount(places, outcomes).astype(float)
    return Scores(values, count, bad, np.zeros_like(count) if defaulted is None else count - bad)


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.4, 0.41, 0.9, 1.0]), min_size=1, max_size=30))
def test_the_expected_auc_is_the_share_of_expected_pairs_in_their_order(pds: list[float]) -> None:
    found = expected_auc(scores_of(np.array(pds)))
    won = drawn = 0.0
    for one, other in itertools.product(pds, pds):
        drawn += one * (1 - other)
        won += one * (1 - other) * (1.0 if one > other else 0.5 if one == other else 0.0)
    assert found.value == pytest.approx(won / drawn if drawn else 0.5)
    assert 0 < found.variance < math.inf


def test_the_expected_auc_is_that_of_outcomes_if_the_pds_are_right() -> None:
    generator = np.random.default_rng(3)
    pds = generator.beta(1, 6, 40_000)
    realized = realized_auc(scores_of(pds, (generator.random(len(pds)) < pds).astype(float)))
    assert expected_auc(scores_of(pds)).value == pytest.approx(realized.value, abs=4 * math.sqrt(realized.variance))


def test_it_rewards_a_model_that_is_too_sure_which_the_documentation_says() -> None:
    generator = np.random.default_rng(4)
    pds = generator.beta(2, 6, 5000)
    odds = (pds / (1 - pds)) ** 2
    assert expected_auc(scores_of(odds / (1 + odds))).value > expected_auc(scores_of(pds)).value + 0.05


def test_variances_are_those_of_repetition() -> None:
    generator = np.random.default_rng(5)
    expected, realized = [], []
    for _ in range(300):
        pds = generator.beta(1, 5, 400)
        scores = scores_of(pds, (generator.random(400) < pds).astype(float))
        expected.append(expected_auc(scores))
        realized.append(realized_auc(scores))
    for found in (expected, realized):
        seen = float(np.var([entry.value for entry in found]))
        assert float(np.mean([entry.variance for entry in found])) == pytest.approx(seen, rel=0.25)


def test_a_known_case() -> None:
    pds, defaulted = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 1.0, 0.0, 1.0])
    scores = scores_of(pds, defaulted)
    assert realized_auc(scores).value == 0.75
    assert brier(scores) == pytest.approx((0.01 + 0.64 + 0.09 + 0.36) / 4)


@pytest.mark.parametrize("pd", [0.0, 0.3, 1.0])
def test_one_pd_for_all_separates_nobody_and_is_not_certain(pd: float) -> None:
    found = expected_auc(scores_of(np.full(50, pd)))
    assert found.value == 0.5
    assert found.variance > 0
