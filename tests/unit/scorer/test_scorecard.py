"""Score points: the scale's two anchors, and its ends."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorer.model.scorecard import Scorecard, log_odds, log_odds_of

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
