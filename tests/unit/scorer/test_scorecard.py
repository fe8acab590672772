"""Score points: the scale's two anchors, and its ends. Grades: where each begins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorer.contract import Grade
from scorer.model.scorecard import MasterScale, Scorecard, log_odds, log_odds_of

CARD = Scorecard(base_points=600, base_odds=50, points_to_double=20)


@pytest.mark.parametrize(("odds", "points"), [(50, 600), (100, 620), (25, 580), (1, 487)])
def test_points_follow_the_odds_of_repaying(odds: float, points: int) -> None:
    assert CARD.points(1 / (1 + odds)) == points


def test_certainty_has_finite_points() -> None:
    assert CARD.points(0.0) > CARD.points(0.001) > CARD.points(0.999) > CARD.points(1.0)


def test_log_odds_of_an_even_chance_are_zero() -> None:
    assert log_odds(0.5) == 0
    assert log_odds(0.75) == pytest.approx(math.log(3))


def test_log_odds_of_an_array_are_those_of_its_elements() -> None:
    for probabilities in ([0.1, 0.5, 0.9], [0.0, 0.25, 1.0], [0.999999]):
        one_by_one = [log_odds(probability) for probability in probabilities]
        assert log_odds_of(np.array(probabilities)).tolist() == pytest.approx(one_by_one)


@pytest.mark.parametrize(
    ("probability", "grade"),
    [(0.0, "A"), (0.0999, "A"), (0.1, "B"), (0.29, "B"), (0.3, "C"), (0.9999, "C"), (1.0, "C")],
)
def test_a_grade_holds_probabilities_from_the_better_ones_end_up_to_its_own(probability: float, grade: str) -> None:
    assert MasterScale([Grade("A", 0.1, 0.05), Grade("B", 0.3, 0.2), Grade("C", 1.0, 0.6)]).grade(probability) == grade


def test_a_scale_may_have_one_grade() -> None:
    scale = MasterScale([Grade("all", 1.0, 0.2)])
    assert [scale.grade(0.0), scale.grade(1.0), *scale.grades_of(np.array([0.5], np.float32))] == ["all"] * 3


@given(st.sets(st.floats(0.001, 0.999), max_size=8), st.lists(st.floats(0, 1, width=32), max_size=30))
def test_rows_get_the_grades_that_each_would_get_alone(ends: set[float], probabilities: list[float]) -> None:
    scale = MasterScale([Grade(str(end), end, 0.5) for end in [*sorted(ends), 1.0]])
    # As well at the ends, whether float32 can hold them or not.
    rows = np.array([*probabilities, *ends], np.float32)
    assert scale.grades_of(rows) == [scale.grade(probability) for probability in rows.tolist()]
