"""Drift of reasons: nothing where there is none, what it is where there is, and that its bounds hold at all looks."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.checks.bounds import around
from decisions.checks.reasons import drift

NAMES = ["AMOUNT_HIGH", "DTI_HIGH", "SCORE_LOW", "no reason"]


def test_the_same_distribution_has_no_distance_beyond_chance() -> None:
    found = drift({"A": 500, "B": 500}, {"A": 50, "B": 50})
    assert found.distance.value == 0
    assert found.distance.variance > 0


def test_small_distances_are_about_the_population_stability_index() -> None:
    champion, canary = {"A": 500_000, "B": 500_000}, {"A": 560_000, "B": 440_000}
    index = (0.56 - 0.5) * math.log(0.56 / 0.5) + (0.44 - 0.5) * math.log(0.44 / 0.5)
    found = drift(champion, canary)
    assert found.distance.value == pytest.approx(index, rel=0.01)
    assert found.champion_share == 0.5
    assert found.canary_share == pytest.approx(0.56 if found.reason == "A" else 0.44)


def test_a_reason_that_vanishes_is_certain_after_a_hundred_decisions() -> None:
    found = drift({"A": 50, "B": 50}, {"B": 100})
    lower, _ = around(found.distance, 0.2, 0.01, 0.01)
    assert lower > 0.2
    assert found.distance.value == pytest.approx(2 * (0.25 / 0.5 + 0.25 / 1.5), abs=0.03)


def test_rare_reasons_count_as_one() -> None:
    rare = {f"R{number}": 1 for number in range(10)}
    assert drift({"A": 990, **rare}, {"A": 990, "other": 10}).distance.value == 0


def test_a_version_that_names_the_same_reasons_is_hardly_ever_accused() -> None:
    generator = np.random.default_rng(21)
    runs, wrong = 300, 0
    for _ in range(runs):
        arms = [generator.choice(NAMES, 500, p=[0.4, 0.3, 0.2, 0.1]) for _ in range(2)]
        for look in range(50, 501, 50):
            found = drift(*(Counter(arm[:look].tolist()) for arm in arms))
            if around(found.distance, 0.2, 0.05, 0.05)[0] > 0:
                wrong += 1
                break
    assert wrong <= runs * 0.05


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9999), min_size=1),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9999), min_size=1),
)
def test_whatever_was_named_the_distance_is_finite(champion: dict[str, int], canary: dict[str, int]) -> None:
    champion, canary = {**champion, "z": champion.get("a", 0) + 1}, {**canary, "y": 1}
    found = drift(champion, canary).distance
    assert 0 <= found.value <= 4
    assert 0 < found.variance < math.inf
