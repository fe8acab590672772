"""When a step is judged, and what its verdict means for the rollout. Pure."""

from __future__ import annotations

from promoter.api.durations import seconds
from promoter.api.spec import OnInsufficientData, Spec
from promoter.decision import window
from promoter.decision.draft import Draft, plan
from promoter.decision.judge import judge
from promoter.decision.state import AnalysisResult, Phase, State, Verdict
from promoter.decision.steps import next_step


def step_over(spec: Spec, state: State, now: float) -> bool:
    """Return whether a step's or a pause's time is up; a pause without a duration has no end of its own."""
    length = plan(spec)[state.step_index].seconds
    since = state.phase_started_at if state.phase == Phase.PAUSED else state.step_started_at
    return not state.held and length is not None and since is not None and now - since >= length


def due(spec: Spec, state: State, now: float) -> bool:
    """Return whether it is time to judge: after each interval, and at the latest at the step's end."""
    if state.phase not in {Phase.PROGRESSING, Phase.PAUSED} or state.step_index >= len(plan(spec)):
        return False
    if state.step_started_at is None or now <= state.step_started_at:
        return False
    rested = now - state.analyzed_at >= seconds(spec.analysis.interval)
    return rested or (state.analysis is None and step_over(spec, state, now))


def judged(draft: Draft) -> bool:
    """Judge when it is time; return False when that ended the rollout."""
    spec, state = draft.spec, draft.state
    if not due(spec, state, draft.now):
        return True
    counted = window.advance(state.window, draft.seen.pods)
    unreadable = [f"{pod.pod}: {pod.error}" for pod in draft.seen.pods if pod.error]
    if not draft.seen.pods:
        unreadable = ["no stable pod is ready"]
    shadowing = plan(spec)[state.step_index].mode == "shadow"
    verdict, results = judge(
        spec, counted.totals, shadowing=shadowing, unreadable=unreadable, queries=draft.seen.queries
    )
    failures = state.failures + (verdict == Verdict.FAILED)
    errors = state.errors + 1 if verdict == Verdict.ERROR else 0
    analysis = AnalysisResult(verdict=verdict, at=draft.now, results=results)
    draft.set(window=counted, analysis=analysis, analyzed_at=draft.now, failures=failures, errors=errors)
    if failures >= spec.analysis.failure_limit:
        draft.roll_back("AnalysisFailed", findings(draft))
    elif errors >= spec.analysis.error_limit:
        draft.roll_back("AnalysisError", f"{errors} times in a row: {findings(draft)}")
    return draft.state.phase != Phase.ROLLING_BACK


def insufficient(draft: Draft) -> None:
    """Do what the spec says about a step that is over without a verdict."""
    choice = draft.spec.analysis.on_insufficient_data
    if choice == OnInsufficientData.PROCEED:
        draft.tell("InsufficientData", f"going on without enough data: {findings(draft)}", "Warning")
        next_step(draft)
    elif choice == OnInsufficientData.PAUSE:
        draft.tell("InsufficientData", f"paused: {findings(draft)}", "Warning")
        draft.enter(Phase.PAUSED, f"paused: {findings(draft)}", held=True)
    else:
        draft.say(f"step {draft.state.step} is over, waiting for data: {findings(draft)}")


def findings(draft: Draft) -> str:
    """Return the last judgement in words: its verdict, and what led to it."""
    analysis = draft.state.analysis
    if analysis is None:
        return "nothing judged yet"
    worst = [result.message for result in analysis.results if result.verdict == analysis.verdict]
    return f"{analysis.verdict}: {'; '.join(worst)}"
