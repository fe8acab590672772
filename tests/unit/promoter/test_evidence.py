"""Bounds by betting and by normal mixtures: they hold at all looks together, and shrink as samples are added."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter.decision.evidence import BETS, bets_against, log_capital, lower_bound, normal_radius, upper_bound

COUNT = st.integers(0, 300).map(float)


@given(st.tuples(COUNT, COUNT, COUNT).filter(any), st.sampled_from([0.2, 0.01, 0.0001]))
def test_the_bounds_are_on_both_sides_of_the_mean(counted: tuple[float, float, float], chance: float) -> None:
    counts = dict(zip((1.0, 0.0, -1.0), counted, strict=True))
    mean = (counted[0] - counted[2]) / sum(counted)
    lower, upper = lower_bound(counts, -1.0, chance), upper_bound(counts, 1.0, chance)
    assert -1 <= lower <= mean + 1e-9
    assert mean - 1e-9 <= upper <= 1


@given(st.integers(1, 300).map(float), COUNT)
def test_a_bound_is_where_the_capital_reaches_the_inverse_of_the_chance(ones: float, zeros: float) -> None:
    counts = {1.0: ones, 0.0: zeros}
    bound = lower_bound(counts, 0.0, 0.01)
    if bound > 1e-6:
        assert log_capital(counts, 0.0, bound) == pytest.approx(math.log(100), abs=0.01)


def test_without_any_other_value_than_the_least_the_bound_is_exactly_that() -> None:
    assert lower_bound({1.0: 0.0, 0.0: 10_000.0}, 0.0, 0.01) == 0.0
    assert lower_bound({}, -1.0, 0.01) == -1.0
    assert upper_bound({1.0: 12.0}, 1.0, 0.01) == 1.0


@pytest.mark.parametrize("bets", [BETS, *map(bets_against, (0.0, 0.001, 0.02, 0.5, 1.0))])
def test_the_bets_share_the_capital_and_never_lose_all_of_it(bets: tuple[tuple[float, float], ...]) -> None:
    assert sum(weight for _, weight in bets) == pytest.approx(1.0)
    assert all(0 < fraction < 1 for fraction, _ in bets)


def test_twice_a_share_is_told_from_it_by_fewer_samples_if_half_of_the_capital_expects_it() -> None:
    counts = {1.0: 40.0, 0.0: 960.0}
    assert lower_bound(counts, 0.0, 0.001, bets_against(0.02)) > lower_bound(counts, 0.0, 0.001)


@pytest.mark.parametrize(("limit", "values"), [(0.02, (1.0, 0.0)), (0.05, (1.0, 0.0)), (0.05, (1.0, 0.0, -1.0))])
def test_a_version_at_its_limit_exceeds_the_bound_at_any_of_many_looks_with_at_most_the_chance(
    limit: float, values: tuple[float, ...]
) -> None:
    chance, paths, looks = 0.1, 2000, 200
    shares = [limit, 1 - limit] if len(values) == 2 else [0.1 + limit / 2, 0.8, 0.1 - limit / 2]
    values = values if len(values) == 2 else (1.0, 0.0, -1.0)
    counts = np.random.default_rng(5).multinomial(20, shares, size=(paths, looks)).cumsum(axis=1)
    least = min(values)
    logs = np.array([
        math.log(weight) + sum(
            counts[:, :, at] * math.log1p(fraction * (value - limit) / (limit - least))
            for at, value in enumerate(values)
        )
        for fraction, weight in BETS
    ])  # fmt: skip
    exceeded = (np.logaddexp.reduce(logs, axis=0) >= -math.log(chance)).any(axis=1)
    assert exceeded.mean() <= chance
    path = int(np.flatnonzero(exceeded)[0]) if exceeded.any() else 0
    last = dict(zip(values, map(float, counts[path, -1]), strict=True))
    expected = np.logaddexp.reduce(logs, axis=0)[path, -1]
    assert log_capital(last, least, limit) == pytest.approx(float(expected))


def test_a_normal_mixture_covers_the_truth_at_all_of_many_looks_but_for_the_chance() -> None:
    chance, paths, looks = 0.1, 2000, 400
    steps = np.random.default_rng(6).standard_normal((paths, looks))
    samples = np.arange(1, looks + 1)
    means = steps.cumsum(axis=1) / samples
    radii = np.array([normal_radius(1 / n, 0.3, chance) for n in samples])
    missed = (np.abs(means) > radii).any(axis=1).mean()
    assert 0.01 < missed <= chance


def test_a_radius_shrinks_with_the_variance() -> None:
    radii = [normal_radius(1 / n, 0.05, 0.01) for n in (10, 100, 1000, 10_000)]
    assert radii == sorted(radii, reverse=True)
    assert normal_radius(0.0, 0.05, 0.01) == 0.0
