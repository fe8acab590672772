"""Grades: the expected default rate of each, and the verdict of the test rows on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.master_scale import DeclaredGrade
from trainer.evaluation.default_rates import Rate
from trainer.evaluation.master_scale import (
    GradeResult,
    Verdict,
    assess_grades,
    build_grades,
    expected_default_rates,
)

SCALE = [
    DeclaredGrade(name=name, upper_probability=end) for name, end in (("A", 0.1), ("B", 0.3), ("C", 0.5), ("D", 1.0))
]


def test_a_grade_expects_the_mean_probability_of_its_rows_or_else_the_middle_of_its_range() -> None:
    # .1 and .3 are where B and C begin; nobody has grade C.
    grades = build_grades(SCALE, np.array([0.02, 0.04, 0.1, 0.2, 0.6, 0.9, 0.9]))
    assert [grade.name for grade in grades] == ["A", "B", "C", "D"]
    assert [grade.upper_probability for grade in grades] == [0.1, 0.3, 0.5, 1.0]
    assert [grade.expected_default_rate for grade in grades] == pytest.approx([0.03, 0.15, 0.4, 0.8])


def test_without_a_declared_scale_there_are_no_grades() -> None:
    assert build_grades((), np.array([0.1, 0.9])) == ()
    assert assess_grades((), (), np.array([0.0, 1.0]), np.array([0.1, 0.9])) == ()


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=50), st.sets(st.floats(0.01, 0.99), max_size=6))
def test_expected_default_rates_rise_and_every_row_has_a_grade(scores: list[float], ends: set[float]) -> None:
    scale = [DeclaredGrade(name=str(i), upper_probability=end) for i, end in enumerate([*sorted(ends), 1.0])]
    probability = np.array(scores)
    grades = build_grades(scale, probability)
    expected = [grade.expected_default_rate for grade in grades]
    assert expected == sorted(set(expected))
    lower = 0.0
    for grade, result in zip(
        grades, assess_grades(grades, expected, (probability > 0.5).astype(float), probability), strict=True
    ):
        inside = (probability >= lower) & (probability < grade.upper_probability)
        rows = int(inside.sum())
        assert result.observed == Rate(rows, int((inside & (probability > 0.5)).sum()), rows)
        assert (result.lower_probability, result.upper_probability) == (lower, grade.upper_probability)
        lower = grade.upper_probability


@pytest.mark.parametrize(
    ("expected", "rows", "defaults", "verdict"),
    [
        # The 95 % Jeffreys interval of 10 in 100 is .0526 to .1701.
        (0.1, 100, 10, Verdict.HOLDS),
        (0.0527, 100, 10, Verdict.HOLDS),
        (0.0525, 100, 10, Verdict.TOO_LOW),
        (0.1700, 100, 10, Verdict.HOLDS),
        (0.1702, 100, 10, Verdict.TOO_HIGH),
        # A tenth of the rows tell less.
        (0.2, 10, 1, Verdict.HOLDS),
        (0.2, 0, 0, Verdict.UNKNOWN),
        # No default among 100: below 2.5 % cannot be told from 0.
        (0.0001, 100, 0, Verdict.HOLDS),
        (0.03, 100, 0, Verdict.TOO_HIGH),
    ],
)
def test_the_verdict_is_whether_the_expected_rate_is_within_the_observed_ones_interval(
    expected: float, rows: int, defaults: int, verdict: Verdict
) -> None:
    assert GradeResult("B", 0.05, 0.2, expected, Rate(rows, defaults, rows)).verdict is verdict


def test_well_calibrated_probabilities_hold_and_halved_ones_are_too_low() -> None:
    rng = np.random.default_rng(3)
    probability = rng.beta(1, 4, 20_000)
    target = (rng.random(len(probability)) < probability).astype(float)
    scale = [*SCALE[:3], DeclaredGrade(name="D", upper_probability=1.0)]
    grades = build_grades(scale, probability)
    fair = [grade.expected_default_rate for grade in grades]
    found = assess_grades(grades, fair, target, probability)
    assert [result.verdict for result in found] == [Verdict.HOLDS] * 4
    halved = assess_grades(grades, [rate / 2 for rate in fair], target, probability)
    assert [result.verdict for result in halved] == [Verdict.TOO_LOW] * 4


def test_a_model_at_another_default_rate_is_judged_at_that_of_the_data() -> None:
    """Odds of a third of the data's: graded by what is answered, compared by what the data have."""
    rng = np.random.default_rng(4)
    of_data = rng.beta(1, 4, 20_000)
    target = (rng.random(len(of_data)) < of_data).astype(float)
    answered = of_data / (of_data + 3 * (1 - of_data))
    grades = build_grades(SCALE, answered)
    expected = expected_default_rates(grades, answered, of_data)
    assert all(rate > grade.expected_default_rate for rate, grade in zip(expected, grades, strict=True))
    assert {result.verdict for result in assess_grades(grades, expected, target, answered)} == {Verdict.HOLDS}


def test_a_row_that_stands_for_three_loans_counts_three_times() -> None:
    probability, weight = np.array([0.02, 0.05, 0.15, 0.6]), np.array([1.0, 2.0, 1.0, 0.0])
    repeated = build_grades(SCALE, np.array([0.02, 0.05, 0.05, 0.15]))
    assert build_grades(SCALE, probability, weight) == repeated
    (first, *_) = assess_grades(repeated, [0.1] * 4, np.array([0.0, 1.0, 0.0, 1.0]), probability, weight)
    assert first.observed.value == pytest.approx(2 / 3)
