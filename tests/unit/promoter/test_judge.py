"""Verdicts: from counts to Successful, Failed, Inconclusive or Error, with the numbers in the message."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter.api.rules import parse_spec
from promoter.api.status import MetricResult, Verdict
from promoter.decision.judge import judge, lower_bound, psi, quantile, share_above

BOUNDS = [0.005, 0.01, 0.05, 0.1, 1.0, math.inf]


def totals(arm: str, **counts: Any) -> dict[str, float]:
    """Return the counters of an arm from outcomes, seconds and scores per bin, and decisions."""
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


@pytest.mark.parametrize("answers", range(10, 400))
def test_a_limit_of_zero_fails_no_version_without_errors(answers: int) -> None:
    strict = {"limit": 0}
    found = verdict_of("ErrorRate", totals("canary", outcomes={"ok": answers}), metric=strict)
    assert found.verdict == (Verdict.SUCCESSFUL if answers >= 100 else Verdict.INCONCLUSIVE)
    bad = verdict_of("ErrorRate", totals("canary", outcomes={"ok": answers, "error": 5}), metric=strict)
    assert bad.verdict == Verdict.FAILED


def test_a_message_has_value_limit_samples_and_kinds_of_errors() -> None:
    found = verdict_of("ErrorRate", totals("canary", outcomes={"ok": 300, "timeout": 60, "error": 40}))
    assert found.message == "error rate 0.250 > 0.02 over 400 requests (40 error, 60 timeout)"


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [([490, 10], Verdict.SUCCESSFUL), ([300, 180, 20], Verdict.INCONCLUSIVE), ([0, 0, 0, 300, 200], Verdict.FAILED)],
)
def test_latency_is_relative_to_the_champion(canary: list[int], verdict: Verdict) -> None:
    counted = totals("stable", seconds=[1990, 10, 0, 0, 0, 0]) | totals("canary", seconds=(canary + [0] * 6)[:6])
    assert verdict_of("LatencyP99", counted).verdict == verdict


def test_a_difference_of_a_few_milliseconds_never_fails() -> None:
    counted = totals("stable", seconds=[2000, 0, 0, 0, 0, 0]) | totals("canary", seconds=[0, 500, 0, 0, 0, 0])
    assert verdict_of("LatencyP99", counted).verdict == Verdict.SUCCESSFUL


FLAT, TILTED = [100] * 10, [300, 250, 150, 100, 60, 50, 40, 20, 20, 10]


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [(FLAT, Verdict.SUCCESSFUL), (TILTED, Verdict.FAILED), ([1] * 10, Verdict.INCONCLUSIVE)],
)
def test_score_psi_detects_drift_and_waits_for_samples(canary: list[int], verdict: Verdict) -> None:
    counted = totals("stable", score=FLAT) | totals("canary", score=canary)
    assert verdict_of("ScorePSI", counted).verdict == verdict


@pytest.mark.parametrize(
    ("approved", "verdict"),
    [(600, Verdict.SUCCESSFUL), (640, Verdict.SUCCESSFUL), (670, Verdict.INCONCLUSIVE), (750, Verdict.FAILED),
     (450, Verdict.FAILED)],
)  # fmt: skip
def test_a_decision_shift_fails_in_either_direction(approved: int, verdict: Verdict) -> None:
    counted = totals("stable", decisions={"approve": 6000, "decline": 4000}) | totals(
        "canary", decisions={"approve": approved, "decline": 1000 - approved}
    )
    assert verdict_of("DecisionShift", counted).verdict == verdict


def test_shadow_disagreement_is_judged_only_in_the_shadow_phase() -> None:
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


def test_a_query_does_not_pass_without_samples() -> None:
    metric = {"name": "own", "query": "up", "limit": 1}
    found = verdict_of("Query", totals("canary", outcomes={"ok": 99}), metric=metric, queries={"own": 0.5})
    assert (found.verdict, found.message) == (Verdict.INCONCLUSIVE, "own: 99 of 100 samples")


def test_an_unreadable_pod_is_an_error_and_never_a_pass() -> None:
    counted = totals("canary", outcomes={"ok": 500})
    assert verdict_of("ErrorRate", counted, unreadable=["pod-1: refused"]).verdict == Verdict.ERROR


@given(st.lists(st.integers(1, 500), min_size=10, max_size=10))
def test_the_psi_of_a_histogram_with_itself_is_zero(counts: list[int]) -> None:
    assert psi(counts, counts)[0] == pytest.approx(0.0)


COUNTS = st.lists(st.integers(0, 500), min_size=10, max_size=10).filter(any)


@given(COUNTS, COUNTS)
def test_the_psi_is_never_negative(one: list[int], other: list[int]) -> None:
    assert psi(one, other)[0] >= -1e-9


def test_quantiles_interpolate_as_prometheus_does() -> None:
    buckets = [(0.1, 50.0), (0.2, 100.0), (math.inf, 100.0)]
    assert quantile(buckets, 0.75) == pytest.approx(0.15)
    assert quantile([(0.1, 0.0), (math.inf, 10.0)], 0.5) == pytest.approx(0.1)
    assert math.isnan(quantile([], 0.5))
    assert share_above(buckets, 0.1) == pytest.approx(0.5)


@given(st.integers(1, 1000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_the_lower_bound_is_below_the_share(counted: tuple[int, int]) -> None:
    count, total = counted
    assert 0 <= lower_bound(count, total) <= count / total + 1e-12
