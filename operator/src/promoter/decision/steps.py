"""Moving from step to step."""

from __future__ import annotations

from typing import Any

from promoter.api.durations import seconds
from promoter.api.spec import OnInsufficientData, Strategy
from promoter.api.status import Phase
from promoter.decision import window
from promoter.decision.draft import Draft
from promoter.decision.experiment import describe, report_of
from promoter.decision.plan import EVERYONE, plan, step_at
from promoter.decision.totals import StepTotals


def reenter_changed_step(draft: Draft) -> bool:
    """Enter the current step again if the spec's steps have changed; return whether they have."""
    state, steps = draft.state, plan(draft.spec)
    index = min(state.step_index, len(steps) - 1)
    wanted = (f"{index + 1}/{len(steps)}", steps[index].weight)
    right_phase = state.paused_for_data or (steps[index].mode == "pause") == (state.phase == Phase.PAUSED)
    if (state.step, state.weight) == wanted and right_phase:
        return False
    enter_step(draft, index)
    return True


def enter_step(draft: Draft, index: int) -> None:
    """Begin a step; its clock and window start once every stable pod reports its weight."""
    steps = plan(draft.spec)
    step = steps[index]
    label = f"{index + 1}/{len(steps)}"
    changes: dict[str, Any] = {"step_index": index, "step": label, "paused_for_data": False}
    if step.mode == "pause":
        draft.add_event("Paused", f"step {label}: paused at {step.weight} %")
        if draft.state.weight != step.weight:
            changes |= {"weight": step.weight, "step_started_at": None, "analysis": None}
        draft.enter_phase(Phase.PAUSED, f"step {label}: paused", **changes)
    else:
        draft.add_event("StepStarted", f"step {label}: {step.mode} weight {step.weight} %")
        draft.enter_phase(Phase.PROGRESSING, f"step {label}: {step.mode} weight {step.weight} %", weight=step.weight,
                          step_started_at=None, analysis=None, **changes)  # fmt: skip


def next_step(draft: Draft) -> None:
    """Enter the next step; after the last one promote, or complete an experiment."""
    following = draft.state.step_index + 1
    if following < len(plan(draft.spec)):
        enter_step(draft, following)
    elif draft.spec.strategy == Strategy.EXPERIMENT:
        _complete(draft)
    else:
        promote(draft)


def _complete(draft: Draft) -> None:
    """End the experiment with a report, whatever it says: a version that is worse than the limits ended before."""
    state = draft.state
    report = report_of(
        StepTotals(window.advance(state.window, draft.observed.pods).totals),
        champion_version=state.stable_version or "", weight=state.weight, started_at=state.step_started_at,
    )  # fmt: skip
    draft.complete(report, f"the experiment with version {state.canary_version} is complete: {describe(report)}")


def ends_by_time(draft: Draft) -> bool:
    """Return whether the step ends with its time, whatever the verdict: an experiment, but not its shadow phase."""
    last = draft.state.step_index >= len(plan(draft.spec)) - 1
    return last and draft.spec.strategy == Strategy.EXPERIMENT


def handle_insufficient_data(draft: Draft, why: str) -> None:
    """Do what the spec asks for at the end of a step without a verdict; `why` describes the analysis."""
    choice = _choice_without_verdict(draft)
    if choice == OnInsufficientData.PROCEED:
        draft.add_event("InsufficientData", f"proceeding without enough data: {why}", "Warning")
        next_step(draft)
    elif choice == OnInsufficientData.PAUSE:
        draft.add_event("InsufficientData", f"paused: {why}", "Warning")
        draft.enter_phase(Phase.PAUSED, f"paused: {why}", paused_for_data=True)
    else:
        draft.set_message(f"step {draft.state.step} is complete, waiting for data: {why}")


def _choice_without_verdict(draft: Draft) -> OnInsufficientData:
    """Return the spec's choice; weights that grow by evidence wait for it until the longest time is over."""
    auto, choice = draft.spec.auto, draft.spec.analysis.on_insufficient_data
    if auto is None:
        return choice
    since = draft.state.steps_started_at
    if since is None or draft.now - since < seconds(auto.max_duration):
        return OnInsufficientData.WAIT
    return OnInsufficientData.PAUSE if choice == OnInsufficientData.WAIT else choice


def promote(draft: Draft) -> None:
    """Start the rolling update of the stable pods to the canary's version; before that, it gets everybody."""
    version = draft.state.canary_version
    draft.add_event("Promoting", f"updating the stable pods from version {draft.state.stable_version} to {version}")
    step = step_at(draft.spec, draft.state.step_index)
    live = draft.state.phase != Phase.STARTING and step.mode != "shadow"
    draft.enter_phase(Phase.PROMOTING, f"updating the stable pods to version {version}", step="",
                      weight=draft.state.weight if live else 0)  # fmt: skip


def restart_without_canary(draft: Draft) -> bool:
    """Start over if no canary pod is ready anymore; return whether that was the case."""
    if draft.canary_ready:
        return False
    message = f"no canary pod is ready anymore: {draft.observed.canary.waiting or 'no pod'}"
    failures = draft.state.failures + 1
    if failures >= draft.spec.analysis.failure_limit:
        draft.roll_back(
            "CanaryLost", f"{message}; failure {failures}, failureLimit {draft.spec.analysis.failure_limit}"
        )
        return True
    draft.add_event("CanaryLost", f"{message}; starting over", "Warning")
    draft.update(failures=failures)
    draft.enter_phase(Phase.STARTING, f"{message}; starting over", weight=0, step_index=0, step="",
                      step_started_at=None, analysis=None)  # fmt: skip
    return True


def step_verified(draft: Draft) -> bool:
    """Return whether every stable pod reports the step's weight; the step's clock and window start when they do."""
    if draft.state.step_started_at is not None:
        return True
    lagging = draft.pods_without_route() if draft.observed.pods else ["no stable pod is ready"]
    if not lagging:
        steps_started_at = draft.state.steps_started_at
        step = plan(draft.spec)[draft.state.step_index]
        if steps_started_at is None and step.mode == "live":
            steps_started_at = draft.now
        keep_champion = step.mode == "live" and step.weight == EVERYONE
        draft.update(step_started_at=draft.now, steps_started_at=steps_started_at, analyzed_at=draft.now,
                     window=window.next_window(draft.state.window, draft.observed.pods, draft.now,
                                               keep_champion=keep_champion))  # fmt: skip
        return True
    if draft.overdue:
        draft.roll_back("RouteNotSeen", f"stable pods did not apply the weight: {', '.join(lagging)}")
    else:
        draft.set_message(f"step {draft.state.step}: waiting for the weight: {', '.join(lagging)}")
    return False
