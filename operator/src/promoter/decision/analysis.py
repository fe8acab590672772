"""When a canary is analyzed, and what a verdict means for its rollout."""

from __future__ import annotations

from promoter.api.durations import seconds
from promoter.api.spec import MetricType, Spec
from promoter.api.status import AnalysisResult, Phase, State, Verdict
from promoter.decision import window
from promoter.decision.draft import Draft
from promoter.decision.judge import judge
from promoter.decision.plan import plan

# What the model decides, rather than how fast and how reliably it does.
DECIDED_BY_THE_MODEL = frozenset({
    MetricType.SCORE_PSI, MetricType.DECISION_SHIFT, MetricType.SEGMENT_SHIFT, MetricType.REASON_CHANGE,
    MetricType.SHADOW_DISAGREEMENT, MetricType.ESTIMATED_AUC, MetricType.GRADE_CALIBRATION,
    MetricType.REASON_DRIFT,
})  # fmt: skip


def step_elapsed(spec: Spec, state: State, now: float) -> bool:
    """Return whether the time of a step or pause is up; a pause without a duration never ends by itself."""
    length = plan(spec)[state.step_index].seconds
    since = state.phase_started_at if state.phase == Phase.PAUSED else state.step_started_at
    return not state.paused_for_data and length is not None and since is not None and now - since >= length


def analysis_due(spec: Spec, state: State, now: float) -> bool:
    """Return whether it is time for an analysis: after each interval, and at the end of the step at the latest."""
    if state.phase not in {Phase.PROGRESSING, Phase.PAUSED} or state.step_index >= len(plan(spec)):
        return False
    if state.step_started_at is None or now <= state.step_started_at:
        return False
    interval_over = now - (state.analyzed_at or 0.0) >= seconds(spec.analysis.interval)
    return interval_over or (state.analysis is None and step_elapsed(spec, state, now))


def analyze(draft: Draft) -> bool:
    """Analyze the canary if it is time; return False if that ended the rollout."""
    spec, state = draft.spec, draft.state
    if not analysis_due(spec, state, draft.now):
        return True
    counted = window.advance(state.window, draft.observed.pods)
    unreadable = [f"{pod.pod}: {pod.error}" for pod in draft.observed.pods if pod.error]
    if not draft.observed.pods:
        unreadable = ["no stable pod is ready"]
    steps = plan(spec)
    step, windows = steps[state.step_index], sum(entry.mode != "pause" for entry in steps)
    verdict, results = judge(spec, counted.totals, shadowing=step.mode == "shadow", unreadable=unreadable,
                             queries=draft.observed.queries, checks=draft.observed.checks, steps=windows,
                             margin=step.margin)  # fmt: skip
    failures = state.failures + (verdict == Verdict.FAILED)
    errors = state.errors + 1 if verdict == Verdict.ERROR else 0
    analysis = AnalysisResult(verdict=verdict, at=draft.now, results=results)
    draft.update(window=counted, analysis=analysis, analyzed_at=draft.now, failures=failures, errors=errors)
    draft.judgment = analysis
    if failures >= spec.analysis.failure_limit or _proven_worse(spec, analysis):
        draft.roll_back("AnalysisFailed", describe_analysis(draft))
    elif errors >= spec.analysis.error_limit:
        draft.roll_back("AnalysisError", f"{errors} times in a row: {describe_analysis(draft)}")
    return draft.state.phase != Phase.ROLLING_BACK


def _proven_worse(spec: Spec, analysis: AnalysisResult) -> bool:
    """Return whether what the model decides has Failed: one verdict is enough, for its bounds hold at all looks.

    Errors and slow answers come in bursts, which no bound on independent requests allows for, and a Query or SQL
    has no bound.
    """
    types = {metric.display_name: metric.type for metric in spec.metrics}
    return any(
        result.verdict == Verdict.FAILED and types[result.name] in DECIDED_BY_THE_MODEL for result in analysis.results
    )


def describe_analysis(draft: Draft) -> str:
    """Return the last verdict and what led to it."""
    analysis = draft.state.analysis
    if analysis is None:
        return "not analyzed yet"
    decisive = [result.message for result in analysis.results if result.verdict == analysis.verdict]
    return f"{analysis.verdict}: {'; '.join(decisive)}"
