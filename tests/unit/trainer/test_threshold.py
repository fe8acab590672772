"""The decision threshold: each rule's exact value, and what it means for the rows that it divides."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.fairness import assess_groups
from trainer.evaluation.gates import approval_gate
from trainer.evaluation.threshold import (
    approval_rate_threshold,
    assess_decisions,
    expected_cost_threshold,
    ks_threshold,
    parse_threshold,
)

SHARES = st.floats(0.001, 0.999)
FIFTHS = np.array([0.5, 0.1, 0.4, 0.2, 0.3])
OUTCOMES = np.array([1.0, 0.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("setting", "threshold"),
    [
        # Of 2 defaults and 3 repaid loans, only one default is at .5 or above, and no repaid one: 1/2 - 0/3.
        ("ks-maximum", 0.5),
        ("approval-rate=0.8", 0.45),
        ("loss-given-default=0.45,margin=0.05", 0.1),
        ("0.2", 0.2),
    ],
)
def test_each_rule_has_an_exact_threshold(setting: str, threshold: float) -> None:
    assert parse_threshold(setting).find(OUTCOMES, FIFTHS) == pytest.approx(threshold, abs=1e-12)


@given(st.integers(4, 200), st.integers(0, 10**6))
def test_the_ks_threshold_maximizes_the_ks_distance(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = np.append([0.0, 1.0], rng.integers(0, 2, rows - 2))
    score = rng.random(rows)
    threshold = ks_threshold(target, score)
    gaps = [(score[target == 1] >= t).mean() - (score[target == 0] >= t).mean() for t in score]
    assert (score[target == 1] >= threshold).mean() - (score[target == 0] >= threshold).mean() >= max(gaps) - 1e-9


@pytest.mark.parametrize(
    ("probability", "rate", "threshold", "approved"),
    [
        (FIFTHS, 0.2, 0.15, 0.2),
        (FIFTHS, 0.29, 0.15, 0.2),
        (FIFTHS, 0.31, 0.25, 0.4),
        # None at all would be closer.
        (FIFTHS, 0.01, 0.15, 0.2),
        # As would all for 95 %: then the threshold lies above the highest score.
        (FIFTHS, 0.95, 0.75, 1.0),
        # Equal scores are decided alike.
        (np.repeat([0.1, 0.3, 0.7], [6, 3, 1]), 0.5, 0.2, 0.6),
        (np.repeat([0.1, 0.3, 0.7], [6, 3, 1]), 0.8, 0.5, 0.9),
        # Two shares are equally close: the lower one.
        (np.repeat([0.1, 0.3], [4, 4]), 0.75, 0.2, 0.5),
    ],
)
def test_an_approval_rate_is_met_as_closely_as_equal_scores_allow(
    probability: np.ndarray, rate: float, threshold: float, approved: float
) -> None:
    assert approval_rate_threshold(probability, rate) == pytest.approx(threshold, abs=1e-12)
    assert (probability < threshold).mean() == pytest.approx(approved)


@given(st.lists(SHARES, min_size=1, max_size=60), SHARES)
def test_no_threshold_comes_closer_to_the_approval_rate(scores: list[float], rate: float) -> None:
    probability = np.array(scores).round(2).clip(0.001, 0.999)
    threshold = approval_rate_threshold(probability, rate)
    assert 0 < threshold < 1
    reached = (probability < threshold).mean()
    possible = [(probability <= score).mean() for score in probability]
    assert reached > 0
    assert abs(reached - rate) == pytest.approx(min(abs(share - rate) for share in possible), abs=1e-12)
    # The service computes in float32: no row is so near that rounding could move it.
    assert ((probability.astype(np.float32) < threshold) == (probability < threshold)).all()


@given(SHARES, SHARES, SHARES)
def test_the_expected_cost_threshold_approves_exactly_what_pays(loss: float, margin: float, probability: float) -> None:
    threshold = expected_cost_threshold(loss, margin)
    assert 0 < threshold < 1
    gain = (1 - probability) * margin - probability * loss
    if abs(gain) > 1e-12:
        assert (probability < threshold) == (gain > 0)


def test_on_calibrated_probabilities_no_other_threshold_earns_more() -> None:
    rng = np.random.default_rng(0)
    probability = rng.beta(1, 4, 400_000)
    target = (rng.random(len(probability)) < probability).astype(float)

    def earned(threshold: float) -> float:
        return float(np.where(probability < threshold, np.where(target == 1, -0.6, 0.2), 0.0).sum())

    assert expected_cost_threshold(0.6, 0.2) == pytest.approx(0.25)
    others = [earned(threshold) for threshold in (0.05, 0.15, 0.2, 0.3, 0.35, 0.5, 0.9)]
    assert earned(0.25) > max(others)


@pytest.mark.parametrize(
    ("setting", "ratio"),
    [
        # Thresholds of .435, .4, .55 and .5.
        ("approval-rate=0.625", 2 / 3),
        ("loss-given-default=0.6,margin=0.4", 1 / 3),
        ("0.55", 3 / 4),
        ("ks-maximum", 2 / 4),
    ],
)
def test_adverse_impact_is_measured_on_the_decisions_at_every_rules_threshold(setting: str, ratio: float) -> None:
    men, women = [0.1, 0.2, 0.35, 0.45], [0.3, 0.42, 0.5, 0.6]
    probability = np.array([*men, *women] * 50)
    target = np.array([*(0.0, 0.0, 0.0, 0.0), *(0.0, 0.0, 1.0, 1.0)] * 50)
    sex = pd.Series([*["Male"] * 4, *["Female"] * 4] * 50)
    threshold = parse_threshold(setting).find(target, probability)
    groups = assess_groups({"gender": sex}, target, probability, threshold=threshold)
    assert {group.group: group.adverse_impact_ratio for group in groups} == pytest.approx(
        {"Male": 1.0, "Female": ratio}
    )


def test_decisions_count_outcomes_below_the_threshold_and_at_it() -> None:
    decisions = assess_decisions(OUTCOMES, FIFTHS, threshold=0.4)
    assert (decisions.approved.rows, decisions.approved.defaults) == (3, 1)
    assert (decisions.declined.rows, decisions.declined.defaults) == (2, 1)
    assert decisions.approval_rate == pytest.approx(0.6)


@given(st.lists(SHARES, min_size=1, max_size=40), SHARES, st.integers(0, 10**6))
def test_a_row_with_weight_3_counts_as_three_rows(scores: list[float], rate: float, seed: int) -> None:
    probability = np.array(scores).round(2).clip(0.001, 0.999)
    times = np.random.default_rng(seed).integers(0, 4, len(scores))
    times[0] = 1
    weight = times.astype(np.float64)
    repeated = np.repeat(probability, times)
    threshold = approval_rate_threshold(probability, rate, weight)
    assert threshold == approval_rate_threshold(repeated, rate)
    weighted = assess_decisions(probability.round(), probability, weight, threshold=threshold)
    plain = assess_decisions(repeated.round(), repeated, threshold=threshold)
    assert weighted.approval_rate == pytest.approx(plain.approval_rate)
    assert weighted.declined.value == (None if plain.declined.value is None else pytest.approx(plain.declined.value))


def test_a_threshold_that_approves_nobody_is_refused() -> None:
    assert approval_gate(1, 100).passed
    refused = approval_gate(0, 100)
    assert not refused.passed
    assert str(refused) == "approvals REFUSED: 0, limit 1 (of 100 test rows below the decision threshold)"
