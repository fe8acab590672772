"""Properties of both methods of reject inference, whatever the scores are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainer.data.reject_inference import fuzzy, parcelling

Doubles = npt.NDArray[np.float64]
PDS = arrays(np.float64, st.integers(0, 60), elements=st.floats(0, 1))
FACTORS = st.floats(0.1, 5)


@settings(deadline=None)
@given(pd=PDS, factor=FACTORS)
def test_fuzzy_weights_of_an_applicant_add_up_to_one_and_keep_the_expected_defaults(pd: Doubles, factor: float) -> None:
    found = fuzzy(pd, factor=factor)
    assert len(found.row) == 2 * len(pd)
    assert ((found.weight >= 0) & (found.weight <= 1)).all()
    per_applicant = np.bincount(found.row, found.weight, minlength=len(pd))
    assert per_applicant == pytest.approx(np.ones(len(pd)))
    defaults = np.bincount(found.row, found.weight * found.target, minlength=len(pd))
    assert defaults == pytest.approx(np.minimum(1, pd * factor))


@settings(deadline=None)
@given(accepted=PDS, rejected=PDS, factor=FACTORS, bands=st.integers(1, 12), seed=st.integers(0, 9))
def test_parcelling_gives_everybody_one_outcome_and_is_repeatable(
    accepted: Doubles, rejected: Doubles, factor: float, bands: int, seed: int
) -> None:
    target = (np.arange(len(accepted)) % 3 == 0).astype(np.float64)

    def inferred() -> Doubles:
        found = parcelling(accepted, target, rejected, seed=seed, bands=bands, factor=factor)
        assert found.row.tolist() == list(range(len(rejected)))
        assert (found.weight == 1).all()
        assert set(found.target) <= {0.0, 1.0}
        return found.target

    assert (inferred() == inferred()).all()


@settings(deadline=None)
@given(rejected=PDS, rate=st.floats(0, 1), factor=FACTORS)
def test_in_one_band_the_rate_is_that_of_the_accepted_times_the_factor(
    rejected: Doubles, rate: float, factor: float
) -> None:
    target = (np.arange(1000) < round(1000 * rate)).astype(np.float64)
    found = parcelling(np.full(1000, 0.5), target, rejected, seed=0, bands=1, factor=factor)
    assert found.target.sum() == round(min(1.0, target.mean() * factor) * len(rejected))


def test_each_band_has_the_rate_of_its_own_accepted_applicants() -> None:
    rejected = np.linspace(0.2, 0.8, 400)
    accepted = np.repeat([0.25, 0.45, 0.6, 0.75], 100)
    # The champion's order is wrong: what was observed counts.
    target = np.concatenate([np.arange(100) < count for count in (80, 40, 20, 10)]).astype(np.float64)
    found = parcelling(accepted, target, rejected, seed=1, bands=4)
    rates = [found.target[start : start + 100].mean() for start in range(0, 400, 100)]
    assert rates == pytest.approx([0.8, 0.4, 0.2, 0.1])


def test_weights_of_accepted_rows_count() -> None:
    weight = np.array([3.0, 1.0])
    found = parcelling(np.full(2, 0.5), np.array([1.0, 0.0]), np.full(100, 0.5), seed=0, accepted_weight=weight)
    assert found.target.mean() == 0.75


def test_a_band_without_accepted_applicants_takes_its_probability() -> None:
    found = parcelling(np.full(50, 0.1), np.zeros(50), np.full(200, 0.7), seed=0)
    assert found.target.mean() == pytest.approx(0.7)
    assert parcelling(np.empty(0), np.empty(0), np.full(10, 0.3), seed=0).target.sum() == 3


@pytest.mark.parametrize("pd", [np.array([1.1]), np.array([-0.1]), np.array([np.nan])])
def test_what_is_no_probability_is_refused(pd: Doubles) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        fuzzy(pd)
    with pytest.raises(ValueError, match="from 0 to 1"):
        parcelling(pd, np.zeros(1), np.zeros(1), seed=0)


def test_arguments_that_make_no_sense_are_refused() -> None:
    one = np.array([0.5])
    with pytest.raises(ValueError, match="factor 0"):
        fuzzy(one, factor=0)
    with pytest.raises(ValueError, match="1 probabilities of accepted applicants, but 2 targets"):
        parcelling(one, np.zeros(2), one, seed=0)
    with pytest.raises(ValueError, match="0 bands"):
        parcelling(one, np.zeros(1), one, seed=0, bands=0)
