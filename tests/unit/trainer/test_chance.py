"""What chance alone would do, against exact results and simulations."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu, norm

from trainer.evaluation import chance
from trainer.evaluation.chance import (
    Approvals,
    auc_by_chance,
    calibration_error_by_chance,
    chance_levels,
    highest_ratio,
)
from trainer.evaluation.metrics import expected_calibration_error


def test_a_perfectly_calibrated_model_exceeds_the_level_in_one_of_twenty_samples() -> None:
    rng = np.random.default_rng(5)
    exceeded = 0
    for _ in range(200):
        probability = rng.beta(1, 3, 200)
        outcome = (rng.random(200) < probability).astype(float)
        level = calibration_error_by_chance(probability)
        exceeded += expected_calibration_error(outcome, probability) > level
    # 200 samples of .05 lie within 3 to 18 with a probability of .995.
    assert 3 <= exceeded <= 18


def test_the_level_falls_with_the_square_root_of_the_rows_and_is_the_same_each_time() -> None:
    probability = np.random.default_rng(0).beta(1, 3, 12_800)
    small, large = (calibration_error_by_chance(probability[:rows]) for rows in (800, 12_800))
    assert small / large == pytest.approx(4, rel=0.15)
    assert calibration_error_by_chance(probability) == large


def test_certain_probabilities_leave_nothing_to_chance() -> None:
    assert calibration_error_by_chance(np.repeat([0.0, 1.0], 50)) == 0


def test_the_auc_by_chance_is_the_quantile_of_the_mann_whitney_test() -> None:
    defaults, repaid = 20, 180
    level = auc_by_chance(defaults, repaid)
    rng = np.random.default_rng(1)
    scores = rng.random((4_000, defaults + repaid))
    statistic = mannwhitneyu(scores[:, :defaults], scores[:, defaults:], axis=1).statistic / (defaults * repaid)
    assert (statistic > level).mean() == pytest.approx(0.05, abs=0.012)
    assert auc_by_chance(1, 1) == 1


def test_the_ratio_of_one_is_on_the_bound_where_pearsons_test_is_at_its_quantile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Koopman's interval holds the ratios that Pearson's test does not reject; at 1 that is the usual test."""
    table = [[26, 36], [360, 138]]
    statistic = chi2_contingency(table, correction=False).statistic
    monkeypatch.setattr(chance, "CONFIDENCE", float(norm.cdf(np.sqrt(statistic))))
    assert highest_ratio(Approvals(26, 62), Approvals(360, 498)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("rows", [40, 400])
def test_a_true_ratio_lies_above_the_bound_in_one_of_twenty_samples(rows: int) -> None:
    rng = np.random.default_rng(2)
    approved, best = rng.binomial(rows, 0.56, 1_000), rng.binomial(1_000, 0.7, 1_000)
    bounds = [
        highest_ratio(Approvals(int(own), rows), Approvals(int(other), 1_000))
        for own, other in zip(approved, best, strict=True)
    ]
    # 1,000 samples of .05 lie within 30 to 70 with a probability of .997.
    assert 30 <= sum(bound < 0.8 for bound in bounds) <= 70


@pytest.mark.parametrize(
    ("group", "best", "low", "high"),
    [
        (Approvals(0, 49), Approvals(170, 200), 0.03, 0.1),
        (Approvals(0, 1), Approvals(50, 50), 0.5, 1.0),
        (Approvals(50, 50), Approvals(200, 200), 1.0, 1.05),
        (Approvals(50, 50), Approvals(1, 200), 200, 1e6),
    ],
)
def test_the_bound_exists_without_approvals_and_without_refusals(
    group: Approvals, best: Approvals, low: float, high: float
) -> None:
    assert low <= highest_ratio(group, best) <= high


def test_more_comparisons_raise_the_bound_and_more_rows_lower_it() -> None:
    group, best = Approvals(30, 60), Approvals(80, 100)
    alone = highest_ratio(group, best)
    assert alone < highest_ratio(group, best, comparisons=10)
    assert highest_ratio(Approvals(300, 600), Approvals(800, 1_000)) < alone


def test_the_more_weights_differ_the_more_is_chance() -> None:
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.05, 0.6, 2_000)
    target = (rng.random(2_000) < probability).astype(float)
    plain = chance_levels(target, probability)
    alike = chance_levels(target, probability, np.full(2_000, 3.0))
    assert (alike.ece, alike.roc_auc) == pytest.approx((plain.ece, plain.roc_auc))
    # A quarter of the rows has nearly all the weight: chance is about twice as large.
    some = chance_levels(target, probability, np.where(np.arange(2_000) % 4 == 0, 1.0, 1e-3))
    assert some.ece == pytest.approx(2 * plain.ece, rel=0.1)
    assert some.roc_auc - 0.5 == pytest.approx(2 * (plain.roc_auc - 0.5), rel=0.1)


def test_a_perfectly_calibrated_model_of_weighted_rows_stays_within_its_level_in_19_of_20_samples() -> None:
    rng = np.random.default_rng(1)
    probability, weight = rng.uniform(0.05, 0.6, 400), rng.choice([1.0, 8.0], 400)
    level = chance_levels((rng.random(400) < probability).astype(float), probability, weight).ece
    samples = [
        expected_calibration_error((rng.random(400) < probability).astype(float), probability, weight)
        for _ in range(1_000)
    ]
    assert np.mean(np.array(samples) <= level) == pytest.approx(0.95, abs=0.025)
