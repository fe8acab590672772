"""How the chances of wrong verdicts are divided, and how far a rollout may go on which evidence."""

from __future__ import annotations

from typing import Any

import pytest

from promoter.api.rules import parse_spec
from promoter.api.spec import Spec
from promoter.decision.chances import Chances
from promoter.decision.plan import plan


def spec_with(**more: Any) -> Spec:
    return parse_spec({"model": {"name": "m"}, **more})


def test_all_metrics_and_steps_together_have_the_chance_of_the_spec() -> None:
    steps = [{"weight": 5, "duration": "1m"}, {"pause": {}}, {"weight": 50, "duration": "1m"}]
    spec = spec_with(shadow={}, steps=steps, analysis={"falseRollback": 0.02, "missedRegression": 0.05})
    chances = Chances.of(spec, 3)
    assert len(spec.metrics) == 6
    assert chances.by_step * 3 * 6 == pytest.approx(0.02)
    assert (chances.by_pairs + chances.fallback * 3) * 6 == pytest.approx(0.02)
    assert chances.missed == 0.05


def test_a_query_has_no_share_in_the_chance() -> None:
    query = {"type": "Query", "name": "q", "query": "up", "limit": 1}
    metrics = [{"type": "ErrorRate"}, query]
    spec = spec_with(
        analysis={"metrics": metrics, "prometheusUrl": "http://p"}, steps=[{"weight": 5, "duration": "1m"}]
    )
    assert Chances.of(spec, 1).by_step == pytest.approx(0.01)
    assert Chances.of(spec_with(analysis={"metrics": [query], "prometheusUrl": "http://p"}), 1).by_pairs > 0


def test_segments_that_appear_one_after_the_other_spend_no_more_than_the_chance() -> None:
    chances = Chances.of(spec_with(), 3)
    worst, spent, room = 0.0, 0.0, 0
    for segments in range(1, 257):
        chance = chances.by_segment(segments)
        if segments in {16, 32, 64, 128, 256}:
            spent, room = spent + segments * chance, segments
        worst = max(worst, spent)
    assert room == 256
    assert 0.9 * chances.by_pairs < worst <= chances.by_pairs


def test_a_step_that_is_left_with_a_larger_margin_needs_fewer_samples() -> None:
    spec = spec_with(analysis={"minSamples": 1000})
    assert Chances.of(spec, 1, 10.0).min_samples == 50
    assert Chances.of(spec, 1).min_samples == 1000
    assert Chances.of(spec_with(analysis={"minSamples": 20}), 1, 10.0).min_samples == 20


@pytest.mark.parametrize(
    ("auto", "weights", "margins"),
    [({}, [5, 10, 25, 50], [10, 4, 2, 2]), ({"maxWeight": 100}, [5, 10, 25, 50, 100], [10, 4, 2, 2, 2]),
     ({"maxWeight": 8}, [5, 8], [12.5, 2]), ({"maxWeight": 3}, [3], [2])],
)  # fmt: skip
def test_a_weight_follows_once_the_worst_that_is_possible_is_within_the_limits(
    auto: dict[str, Any], weights: list[int], margins: list[float]
) -> None:
    steps = plan(spec_with(auto={"minDuration": "8m", **auto}))
    assert [step.weight for step in steps] == weights
    assert [step.margin for step in steps] == margins
    assert sum(step.seconds or 0 for step in steps) == pytest.approx(480)


def test_the_shadow_phase_comes_before_the_weights_that_grow() -> None:
    steps = plan(spec_with(auto={}, shadow={"percent": 30}))
    assert [(step.mode, step.weight) for step in steps[:2]] == [("shadow", 30), ("live", 5)]
