"""The walk from step to step. Pure."""

from __future__ import annotations

from promoter.decision import window
from promoter.decision.draft import Draft, plan
from promoter.decision.state import Phase


def steps_changed(draft: Draft) -> bool:
    """Enter the step anew when the spec's steps were changed under it."""
    state, steps = draft.state, plan(draft.spec)
    index = min(state.step_index, len(steps) - 1)
    wanted = (f"{index + 1}/{len(steps)}", steps[index].weight)
    if (state.step, state.weight) == wanted and (state.held or (steps[index].mode == "pause") == (
        state.phase == Phase.PAUSED)):  # fmt: skip
        return False
    enter_step(draft, index)
    return True


def enter_step(draft: Draft, index: int) -> None:
    """Begin a step; its clock and window begin once every stable pod has its weight."""
    steps = plan(draft.spec)
    step = steps[index]
    label = f"{index + 1}/{len(steps)}"
    shared = {"step_index": index, "step": label, "held": False}
    if step.mode == "pause":
        draft.tell("Paused", f"step {label}: paused at {step.weight} %")
        if draft.state.weight != step.weight:
            shared |= {"weight": step.weight, "step_started_at": None, "analysis": None}
        draft.enter(Phase.PAUSED, f"step {label}: paused", **shared)
    else:
        draft.tell("StepStarted", f"step {label}: {step.mode} weight {step.weight} %")
        draft.enter(Phase.PROGRESSING, f"step {label}: {step.mode} weight {step.weight} %", weight=step.weight,
                    step_started_at=None, analysis=None, **shared)  # fmt: skip


def next_step(draft: Draft) -> None:
    """Go on to the step that follows, or promote after the last one."""
    following = draft.state.step_index + 1
    if following < len(plan(draft.spec)):
        enter_step(draft, following)
    else:
        promote_now(draft)


def promote_now(draft: Draft) -> None:
    """Let the stable pods roll to the canary's version; a live canary keeps its share meanwhile."""
    version = draft.state.canary_version
    draft.tell("Promoting", f"the stable pods roll from {draft.state.stable_version} to {version}")
    steps, index = plan(draft.spec), draft.state.step_index
    live = draft.state.phase != Phase.STARTING and steps[index].mode != "shadow"
    draft.enter(Phase.PROMOTING, f"the stable pods roll to version {version}", step="",
                weight=draft.state.weight if live else 0)  # fmt: skip


def canary_lost(draft: Draft) -> bool:
    """Start over when no canary pod is ready any more; return whether that was so."""
    if draft.canary_ready:
        return False
    message = f"no canary pod is ready any more: {draft.seen.canary.waiting or 'no pod'}; starting over"
    if draft.state.failures + 1 >= draft.spec.analysis.failure_limit:
        draft.roll_back("CanaryLost", f"{message.removesuffix('; starting over')}, for the "
                        f"{draft.state.failures + 1}. failure")  # fmt: skip
        return True
    draft.tell("CanaryLost", message, "Warning")
    draft.set(failures=draft.state.failures + 1)
    draft.enter(Phase.STARTING, message, weight=0, step_index=0, step="", step_started_at=None, analysis=None)
    return True


def step_verified(draft: Draft) -> bool:
    """Return whether every stable pod has the step's weight; the step's clock and window begin when they do."""
    if draft.state.step_started_at is not None:
        return True
    lag = draft.route_lag() if draft.seen.pods else ["no stable pod is ready"]
    if not lag:
        draft.set(step_started_at=draft.now, analyzed_at=draft.now,
                  window=window.open_window(draft.seen.pods, draft.now))  # fmt: skip
        return True
    if draft.overdue:
        draft.roll_back("RouteNotSeen", f"the weight did not reach {', '.join(lag)}")
    else:
        draft.say(f"step {draft.state.step}: waiting for the weight in {', '.join(lag)}")
    return False
