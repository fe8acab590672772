"""Verdicts: from what was counted to Successful, Failed, Inconclusive or Error, with the numbers in the message."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter.api.spec import parse_spec
from promoter.decision.judge import judge, lower_bound, psi, quantile, share_above
from promoter.decision.observation import PodReading
from promoter.decision.state import MetricResult, Verdict
from promoter.decision.window import PODS_KEPT, advance, open_window

BOUNDS = [0.005, 0.01, 0.05, 0.1, 1.0, math.inf]


def totals(arm: str, **counts: Any) -> dict[str, float]:
    """Return an arm's counters from outcomes, seconds and scores per bin, and decisions."""
    found: dict[str, float] = {}
    for outcome, count in counts.get("outcomes", {}).items():
        found[f"{arm}/outcome/{outcome}"] = count
    for kind, bounds in (("seconds", BOUNDS), ("score", [n / 10 for n in range(1, 10)] + [math.inf])):
        total = 0.0
        for bound, count in zip(bounds, counts.get(kind, []), strict=False):
            total += count
            found[f"{arm}/{kind}/{bound}"] = total
    for decision, count in counts.get("decisions", {}).items():
        found[f"{arm}/decision/{decision}"] = count
    return found


def verdict_of(kind: str, counted: dict[str, float], *, shadowing: bool = False, **more: Any) -> MetricResult:
    metrics = [{"type": kind, **more.pop("metric", {})}, {"type": "Query", "name": "other", "query": "up", "limit": 1}]
    spec = parse_spec({
        "model": {"name": "m"}, "shadow": {},
        "analysis": {"minSamples": 100, "metrics": metrics, "prometheusUrl": "http://prometheus"},
    })  # fmt: skip
    arguments = {"unreadable": [], "queries": {}} | more
    return judge(spec, counted, shadowing=shadowing, **arguments)[1][0]


@pytest.mark.parametrize(
    ("ok", "errors", "verdict"),
    [(500, 0, Verdict.SUCCESSFUL), (495, 5, Verdict.SUCCESSFUL), (485, 15, Verdict.INCONCLUSIVE),
     (450, 50, Verdict.FAILED), (50, 0, Verdict.INCONCLUSIVE), (0, 12, Verdict.FAILED), (0, 0, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_the_error_rate_fails_only_beyond_chance(ok: int, errors: int, verdict: Verdict) -> None:
    assert verdict_of("ErrorRate", totals("canary", outcomes={"ok": ok, "timeout": errors})).verdict == verdict


def test_a_message_has_value_limit_samples_and_kinds() -> None:
    found = verdict_of("ErrorRate", totals("canary", outcomes={"ok": 300, "timeout": 60, "error": 40}))
    assert found.message == "error rate 0.250 > 0.02 over 400 requests (40 error, 60 timeout)"


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [([490, 10], Verdict.SUCCESSFUL), ([300, 180, 20], Verdict.INCONCLUSIVE), ([0, 0, 0, 300, 200], Verdict.FAILED)],
)
def test_latency_is_relative_to_the_champion(canary: list[int], verdict: Verdict) -> None:
    counted = totals("stable", seconds=[1990, 10, 0, 0, 0, 0]) | totals("canary", seconds=(canary + [0] * 6)[:6])
    assert verdict_of("LatencyP99", counted).verdict == verdict


def test_a_few_milliseconds_are_never_a_latency_failure() -> None:
    counted = totals("stable", seconds=[2000, 0, 0, 0, 0, 0]) | totals("canary", seconds=[0, 500, 0, 0, 0, 0])
    assert verdict_of("LatencyP99", counted).verdict == Verdict.SUCCESSFUL


FLAT, TILTED = [100] * 10, [300, 250, 150, 100, 60, 50, 40, 20, 20, 10]


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [(FLAT, Verdict.SUCCESSFUL), (TILTED, Verdict.FAILED), ([1] * 10, Verdict.INCONCLUSIVE)],
)
def test_score_psi_sees_drift_and_waits_for_samples(canary: list[int], verdict: Verdict) -> None:
    counted = totals("stable", score=FLAT) | totals("canary", score=canary)
    assert verdict_of("ScorePSI", counted).verdict == verdict


@pytest.mark.parametrize(
    ("approved", "verdict"),
    [(600, Verdict.SUCCESSFUL), (640, Verdict.SUCCESSFUL), (670, Verdict.INCONCLUSIVE), (750, Verdict.FAILED),
     (450, Verdict.FAILED)],
)  # fmt: skip
def test_a_decision_shift_either_way_fails(approved: int, verdict: Verdict) -> None:
    counted = totals("stable", decisions={"approve": 6000, "decline": 4000}) | totals(
        "canary", decisions={"approve": approved, "decline": 1000 - approved}
    )
    assert verdict_of("DecisionShift", counted).verdict == verdict


def test_shadow_disagreement_is_judged_only_in_the_shadow() -> None:
    counted = {"pairs/same": 500.0, "pairs/different": 500.0}
    assert verdict_of("ShadowDisagreement", counted, shadowing=True).verdict == Verdict.FAILED
    metrics = [{"type": "ShadowDisagreement"}, {"type": "ErrorRate"}]
    spec = parse_spec({"model": {"name": "m"}, "shadow": {}, "analysis": {"metrics": metrics}})
    live = judge(spec, counted, shadowing=False, unreadable=[], queries={})
    assert [result.name for result in live[1]] == ["ErrorRate"]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [(0.5, Verdict.SUCCESSFUL), (2.0, Verdict.FAILED), ("connection refused", Verdict.ERROR),
     (math.nan, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_a_query_is_judged_by_its_number(answer: float | str, verdict: Verdict) -> None:
    metric = {"name": "own", "query": "up", "limit": 1}
    counted = totals("canary", outcomes={"ok": 500})
    assert verdict_of("Query", counted, metric=metric, queries={"own": answer}).verdict == verdict


def test_a_query_passes_nobody_without_samples() -> None:
    metric = {"name": "own", "query": "up", "limit": 1}
    found = verdict_of("Query", totals("canary", outcomes={"ok": 99}), metric=metric, queries={"own": 0.5})
    assert (found.verdict, found.message) == (Verdict.INCONCLUSIVE, "own: 99 of 100 samples")


def test_a_pod_that_cannot_be_read_is_an_error_and_never_a_pass() -> None:
    counted = totals("canary", outcomes={"ok": 500})
    assert verdict_of("ErrorRate", counted, unreadable=["pod-1: refused"]).verdict == Verdict.ERROR


@given(st.lists(st.integers(1, 500), min_size=10, max_size=10))
def test_the_psi_of_a_histogram_with_itself_is_nothing(counts: list[int]) -> None:
    assert psi(counts, counts)[0] == pytest.approx(0.0)


@given(st.lists(st.integers(0, 500), min_size=10, max_size=10), st.lists(st.integers(0, 500), min_size=10, max_size=10))
def test_the_psi_is_never_negative(one: list[int], other: list[int]) -> None:
    if sum(one) and sum(other):
        assert psi(one, other)[0] >= -1e-9


def test_quantiles_interpolate_as_prometheus_does() -> None:
    buckets = [(0.1, 50.0), (0.2, 100.0), (math.inf, 100.0)]
    assert quantile(buckets, 0.75) == pytest.approx(0.15)
    assert quantile([(0.1, 0.0), (math.inf, 10.0)], 0.5) == pytest.approx(0.1)
    assert math.isnan(quantile([], 0.5))
    assert share_above(buckets, 0.1) == pytest.approx(0.5)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_lower_bound_is_below_the_share(count: int, total: int) -> None:
    if count <= total:
        assert 0 <= lower_bound(count, total) <= count / total + 1e-12


def reading(pod: str, started_at: float = 0.0, error: str = "", **counters: float) -> PodReading:
    return PodReading(pod, started_at, 1, counters, error)


def test_only_what_came_since_the_step_began_counts() -> None:
    window = open_window([reading("a", ok=100)], now=50)
    assert advance(window, [reading("a", ok=130)]).totals == {"ok": 30}


def test_a_restarted_process_counts_in_full() -> None:
    window = advance(open_window([reading("a", ok=100, bad=5)], now=50), [reading("a", ok=110, bad=5)])
    assert advance(window, [reading("a", ok=120, bad=1)]).totals["ok"] == 130


def test_a_vanished_pod_leaves_what_it_counted() -> None:
    window = advance(open_window([reading("a", ok=0)], now=50), [reading("a", ok=40)])
    assert advance(window, [reading("b", started_at=60, ok=7)]).totals == {"ok": 47}


def test_a_pod_that_was_unready_for_a_moment_is_not_counted_twice() -> None:
    window = advance(open_window([], now=50), [reading("a", started_at=60, ok=40)])
    window = advance(window, [])
    assert advance(window, [reading("a", started_at=60, ok=45)]).totals == {"ok": 45}


def test_pods_that_vanished_long_ago_are_forgotten() -> None:
    window = open_window([], now=0)
    for number in range(PODS_KEPT + 20):
        window = advance(window, [reading(f"pod-{number}", started_at=1, ok=1), reading("lasting", started_at=1, ok=1)])
    assert len(window.pods) == PODS_KEPT
    assert "lasting" in window.pods
    assert window.totals == {"ok": PODS_KEPT + 21}


def test_a_late_comer_that_is_older_than_the_step_counts_from_now_on() -> None:
    window = advance(open_window([], now=50), [reading("a", started_at=10, ok=900)])
    assert advance(window, [reading("a", started_at=10, ok=905)]).totals == {"ok": 5}


def test_a_pod_that_cannot_be_read_once_loses_nothing() -> None:
    window = advance(open_window([reading("a", ok=10)], now=50), [reading("a", error="timeout")])
    assert advance(window, [reading("a", ok=25)]).totals == {"ok": 15}
