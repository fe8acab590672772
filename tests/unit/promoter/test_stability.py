"""The estimated PSI: near the truth, with the variance that it really has, from arms and from pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from promoter.decision.stability import Stability, of_arms, of_pairs, psi, rank_correlation

EDGES = [tenth / 10 for tenth in range(1, 10)] + [float("inf")]
FLAT = np.full(10, 0.1)
TILTED = np.linspace(0.15, 0.05, 10)


def histogram(shares: np.ndarray, total: int, dice: np.random.Generator) -> list[float]:
    return [float(count) for count in dice.multinomial(total, shares)]


def of_shifted_pairs(total: int, dice: np.random.Generator, stays: float) -> Stability:
    """Return the estimate for applicants who stay in their bin, or move to the next lower one."""
    cells = np.diag(FLAT * stays)
    cells[0, 0] += 0.1 * (1 - stays)
    cells += np.diag(FLAT[1:] * (1 - stays), -1)
    counts = dice.multinomial(total, cells.ravel()).reshape(10, 10)
    return of_pairs({
        (EDGES[one], EDGES[other]): float(counts[one, other]) for one, other in zip(*counts.nonzero(), strict=True)
    })  # fmt: skip


def test_arms_of_one_distribution_differ_by_about_nothing() -> None:
    dice = np.random.default_rng(1)
    found = [of_arms(histogram(FLAT, 400, dice), histogram(FLAT, 400, dice)) for _ in range(300)]
    assert np.mean([one.index for one in found]) < 0.02


@pytest.mark.parametrize("other", [FLAT, TILTED], ids=["the same", "another distribution"])
def test_the_variance_of_arms_is_the_one_that_estimates_have(other: np.ndarray) -> None:
    dice = np.random.default_rng(2)
    found = [of_arms(histogram(FLAT, 1500, dice), histogram(other, 1500, dice)) for _ in range(400)]
    real, claimed = np.var([one.index for one in found]), np.mean([one.variance for one in found])
    # Where both are the same, half of the estimates are cut off at 0, which only makes them vary less.
    assert 0.8 * real < claimed < (5 if other is FLAT else 1.5) * real


def test_the_variance_of_pairs_is_the_one_that_estimates_have_and_smaller_than_that_of_arms() -> None:
    dice = np.random.default_rng(3)
    found = [of_shifted_pairs(1500, dice, 0.4) for _ in range(400)]
    real, claimed = np.var([one.index for one in found]), np.mean([one.variance for one in found])
    assert 0.8 * real < claimed < 1.5 * real
    shares = np.array([0.16, *[0.1] * 8, 0.04])
    arms = of_arms(histogram(FLAT, 1500, dice), histogram(shares, 1500, dice))
    assert np.mean([one.index for one in found]) == pytest.approx(
        psi([150.0] * 10, [240.0, *[150.0] * 8, 60.0])[0], rel=0.15
    )
    assert claimed < arms.variance


def test_pairs_that_all_stay_in_their_bins_differ_by_exactly_nothing() -> None:
    assert of_pairs({(edge, edge): 20.0 for edge in EDGES}) == Stability(0.0, 0.0)


def test_the_rank_correlation_is_spearmans() -> None:
    dice = np.random.default_rng(4)
    one = dice.integers(0, 10, 500)
    other = np.clip(one + dice.integers(-2, 3, 500), 0, 9)
    cells: dict[tuple[float, float], float] = {}
    for pair in zip(one.astype(float).tolist(), other.astype(float).tolist(), strict=True):
        cells[pair] = cells.get(pair, 0.0) + 1
    assert rank_correlation(cells) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation({(0.1, edge): 5.0 for edge in EDGES}) == 1.0
