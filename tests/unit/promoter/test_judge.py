"""Verdicts: from counts to Successful, Failed, Inconclusive or Error, with the numbers in the message."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter.api.rules import parse_spec
from promoter.api.status import MetricResult, Verdict
from promoter.decision.judge import judge
from promoter.decision.stability import psi
from promoter.decision.totals import count_above, quantile

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
    arguments: dict[str, Any] = {"unreadable": [], "queries": {}, "steps": 4} | more
    return judge(spec, ANSWERED | counted, shadowing=shadowing, **arguments)[1][0]


ANSWERED = {"canary/outcome/ok": 1000.0}


def pairs(better: float = 0, worse: float = 0, same: float = 0, prefix: str = "pair/decision") -> dict[str, float]:
    """Return the counters of pairs that were newly approved, newly declined, and decided alike."""
    return {f"{prefix}/decline_to_approve": better, f"{prefix}/approve_to_decline": worse,
            f"{prefix}/both_approve": same}  # fmt: skip


@pytest.mark.parametrize(
    ("ok", "errors", "verdict"),
    [(500, 0, Verdict.SUCCESSFUL), (495, 5, Verdict.SUCCESSFUL), (485, 15, Verdict.INCONCLUSIVE),
     (450, 50, Verdict.FAILED), (100, 0, Verdict.INCONCLUSIVE), (150, 0, Verdict.SUCCESSFUL), (0, 12, Verdict.FAILED),
     (0, 9, Verdict.INCONCLUSIVE), (0, 0, Verdict.INCONCLUSIVE), (490, 10, Verdict.INCONCLUSIVE)],
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
    assert found.message == "error rate 0.250 (0.166 to 0.332) > 0.02 over 400 requests (40 error, 60 timeout)"
    assert (found.lower, found.upper) == (0.166, 0.332)


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


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [(pairs(same=150), Verdict.SUCCESSFUL), (pairs(better=5, worse=5, same=290), Verdict.SUCCESSFUL),
     (pairs(same=40), Verdict.INCONCLUSIVE), (pairs(worse=30, same=470), Verdict.INCONCLUSIVE),
     (pairs(worse=50, same=250), Verdict.FAILED), (pairs(better=50, same=250), Verdict.FAILED)],
)  # fmt: skip
def test_pairs_say_more_about_decisions_than_two_arms(counted: dict[str, float], verdict: Verdict) -> None:
    arms = totals("stable", decisions={"approve": 300, "decline": 300}) | totals(
        "canary", decisions={"approve": 150, "decline": 150}
    )
    found = verdict_of("DecisionShift", arms | counted)
    assert found.verdict == verdict
    assert found.samples == sum(counted.values())
    assert verdict_of("DecisionShift", arms).verdict == Verdict.INCONCLUSIVE


def test_a_message_on_pairs_has_the_bounds_and_both_directions() -> None:
    found = verdict_of("DecisionShift", pairs(better=2, worse=80, same=418))
    assert found.message == (
        "decision shift 0.156 (0.100 to 0.222) > 0.05 over 500 pairs (80 from approve to decline, 2 from decline to "
        "approve)"
    )


def test_where_pairs_are_few_the_arms_are_compared() -> None:
    arms = totals("stable", decisions={"approve": 6000, "decline": 4000}) | totals(
        "canary", decisions={"approve": 600, "decline": 400}
    )
    assert verdict_of("DecisionShift", arms | pairs(worse=99)).samples == 1000
    assert verdict_of("DecisionShift", arms | pairs(worse=100)).samples == 100


def test_pairs_of_earlier_steps_do_not_pass_a_step_that_answered_nobody() -> None:
    found = verdict_of("DecisionShift", pairs(same=5000) | {"canary/outcome/ok": 99.0})
    assert found.verdict == Verdict.INCONCLUSIVE
    assert found.message.endswith("; 99 of 100 samples in this step")


def joint(cells: dict[tuple[float, float], float]) -> dict[str, float]:
    """Return the counters of a joint histogram, and of as many decisions."""
    scores = {f"pair/score/{one}/{other}": count for (one, other), count in cells.items()}
    return scores | pairs(same=sum(cells.values()))


def test_score_psi_is_judged_by_the_same_applicants() -> None:
    edges = [tenth / 10 for tenth in range(1, 10)] + [math.inf]
    alike = joint(dict.fromkeys(zip(edges, edges, strict=True), 15.0))
    assert verdict_of("ScorePSI", alike).verdict == Verdict.SUCCESSFUL
    lower = joint({(edge, edges[max(0, number - 2)]): 100.0 for number, edge in enumerate(edges)})
    found = verdict_of("ScorePSI", lower | {"pair/fall": 150.0, "pair/rise": 50.0})
    assert (found.verdict, found.samples) == (Verdict.FAILED, 1000)
    assert found.message.endswith("over 1000 pairs (mean PD changed by -0.1000, rank correlation 0.988)")


def segment(name: str, **counts: float) -> dict[str, float]:
    return pairs(prefix=f"pair/segment/{name}", **counts)


@pytest.mark.parametrize(
    ("women", "verdict"),
    [({"same": 400.0}, Verdict.SUCCESSFUL), ({"worse": 60.0, "same": 340.0}, Verdict.INCONCLUSIVE),
     ({"worse": 120.0, "same": 280.0}, Verdict.FAILED), ({"better": 120.0, "same": 280.0}, Verdict.SUCCESSFUL)],
)  # fmt: skip
def test_a_version_that_gets_worse_for_one_group_fails(women: dict[str, float], verdict: Verdict) -> None:
    counted = pairs(same=1000) | segment("gender/Male", same=600) | segment("gender/Female", **women)
    found = verdict_of("SegmentShift", counted)
    assert found.verdict == verdict
    if verdict != Verdict.SUCCESSFUL:
        assert found.message.startswith("decline rate of gender/Female rose by")


def test_a_step_does_not_wait_for_a_group_that_is_rare_but_fails_by_it() -> None:
    counted = pairs(same=2000) | segment("purpose/Home", same=1900)
    assert verdict_of("SegmentShift", counted | segment("purpose/Boat", same=40)).verdict == Verdict.SUCCESSFUL
    assert verdict_of("SegmentShift", counted | segment("purpose/Boat", worse=40)).verdict == Verdict.FAILED


def test_of_many_rare_groups_the_most_frequent_ones_are_waited_for() -> None:
    counted = pairs(same=4000)
    for number in range(40):
        counted |= segment(f"region/{number}", same=160 if number else 40)
    assert verdict_of("SegmentShift", counted).verdict == Verdict.SUCCESSFUL


def test_segments_are_judged_only_where_the_contract_marks_some() -> None:
    default = parse_spec({"model": {"name": "m"}})
    names = [result.name for result in judge(default, {}, shadowing=False, unreadable=[], queries={})[1]]
    assert names == ["ErrorRate", "LatencyP99", "ScorePSI", "DecisionShift"]
    assert verdict_of("SegmentShift", pairs(same=5000)).verdict == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("different", "verdict"), [(10, Verdict.SUCCESSFUL), (90, Verdict.INCONCLUSIVE),
                                                      (150, Verdict.FAILED)])  # fmt: skip
def test_principal_reasons_may_change_for_a_share_of_the_applicants(different: int, verdict: Verdict) -> None:
    counted = pairs(same=1000) | {"pair/reason/different": different, "pair/reason/same": 250.0 - different}
    found = verdict_of("ReasonChange", counted)
    assert (found.verdict, found.samples) == (verdict, 250)
    assert verdict_of("ReasonChange", pairs(same=1000)).verdict == Verdict.INCONCLUSIVE


def test_shadow_disagreement_is_judged_only_in_the_shadow_phase() -> None:
    counted = ANSWERED | pairs(better=250, worse=250, same=500)
    assert verdict_of("ShadowDisagreement", counted, shadowing=True).verdict == Verdict.FAILED
    assert verdict_of("ShadowDisagreement", pairs(same=500), shadowing=True).verdict == Verdict.SUCCESSFUL
    metrics = [{"type": "ShadowDisagreement"}, {"type": "ErrorRate"}]
    spec = parse_spec({"model": {"name": "m"}, "shadow": {}, "analysis": {"metrics": metrics}})
    live = judge(spec, counted, shadowing=False, unreadable=[], queries={})
    assert [result.name for result in live[1]] == ["ErrorRate"]


def test_a_larger_margin_passes_on_fewer_samples() -> None:
    counted = pairs(same=50) | {"canary/outcome/ok": 50.0}
    assert verdict_of("DecisionShift", counted).verdict == Verdict.INCONCLUSIVE
    assert verdict_of("DecisionShift", counted, margin=10.0).verdict == Verdict.SUCCESSFUL


@pytest.mark.parametrize(
    ("chance", "verdict"),
    [({"falseRollback": 0.2}, Verdict.FAILED), ({"falseRollback": 0.001}, Verdict.INCONCLUSIVE)],
)
def test_the_chance_of_a_false_rollback_is_the_specs(chance: dict[str, float], verdict: Verdict) -> None:
    metrics = [{"type": "DecisionShift"}]
    spec = parse_spec({"model": {"name": "m"}, "analysis": {"metrics": metrics, **chance}})
    counted = ANSWERED | pairs(worse=30, same=270)
    assert judge(spec, counted, shadowing=False, unreadable=[], queries={})[0] == verdict


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
    assert count_above(buckets, 0.1) == pytest.approx(50.0)
