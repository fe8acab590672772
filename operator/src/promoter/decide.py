"""What to do next: from spec, state, observation and time to a new state and actions. Pure.

The way of a version; every arrow is a function below, every phase a row of `PHASES`:

    Initializing -> Idle | Promoting (first version)
    Idle         -> Starting | Promoting (first, or stable lately) | Failed (the pointer is at a failed version)
    Starting     -> Progressing | Paused | Promoting (skipAnalysis)
    Progressing <-> Paused -> Promoting -> Finishing -> Idle
    Starting, Progressing, Paused, Promoting -> Stopping -> Idle       pointer moved
    Starting, Progressing, Paused, Promoting -> RollingBack -> Failed  version is worse
    Progressing, Paused -> Starting                                    every canary pod is gone
    Failed       -> Idle                                               pointer moved, or retry
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promoter import window
from promoter.conditions import conditions
from promoter.draft import Draft, plan, route_document, wanted_route
from promoter.durations import seconds
from promoter.judge import judge
from promoter.observation import (
    Action,
    ApplyCanary,
    ApplyRoute,
    ClearAction,
    DeleteCanary,
    Observation,
    SetStableVersion,
    TagVersion,
)
from promoter.spec import OnInsufficientData, Spec
from promoter.state import AnalysisResult, Phase, State, Verdict

# How long the stable pods get to see weight 0 before the canary goes; requests fall back to them anyway.
DRAIN_SECONDS = 30.0
# How long the canary outlives the route to it, for answers that are still on their way.
LINGER_SECONDS = 3.0


@dataclass(frozen=True)
class Decision:
    """The new state, and what to do; all of it may be repeated."""

    state: State
    actions: tuple[Action, ...]


def decide(spec: Spec, generation: int, state: State, seen: Observation, now: float) -> Decision:
    """Decide once.

    Args:
        spec: What is asked for; valid.
        generation: The spec's generation.
        state: The state that the last decision left.
        seen: The world now.
        now: Seconds since 1970.
    """
    draft = Draft(spec, state, seen, now)
    draft.set(observed_generation=generation, target=spec.target_ref.name)
    if not seen.registry.error:
        draft.set(desired_version=seen.registry.desired)
    if not seen.stable.exists:
        draft.say(f"the Deployment {spec.target_ref.name} does not exist")
    else:
        _by_hand(draft)
        if draft.state.phase not in _INTERRUPTIBLE or not _interrupted(draft):
            PHASES[draft.state.phase](draft)
    _settle(draft)
    return Decision(draft.state, tuple(draft.actions))


def _settle(draft: Draft) -> None:
    """Bring the route, the tags and the conditions in line with what was decided."""
    draft.set(route=wanted_route(draft.spec, draft.state))
    route = draft.state.route
    if not draft.route_lag() and (draft.seen.pods or not route.weight):
        draft.set(verified_weight=route.weight if route.mode == "live" else 0)
    document = route_document(draft.spec, route)
    if draft.seen.stable.exists and draft.seen.route != document and route.generation:
        # Before everything else: a weight that falls must fall first.
        draft.actions.insert(0, ApplyRoute(document))
    draft.actions += [TagVersion(version, tags) for version, tags in draft.state.pending_tags.items()]
    if draft.state.phase in {Phase.IDLE, Phase.FAILED}:
        draft.set(canary_version=None, step="")
    draft.set(conditions=conditions(draft.state, draft.seen, draft.now))


# --- by hand ---------------------------------------------------------------------------------------------------------


def _by_hand(draft: Draft) -> None:
    action = draft.seen.action
    if not action:
        draft.set(handled_action="")
        return
    draft.actions.append(ClearAction(action))
    if action == draft.state.handled_action:
        return
    draft.set(handled_action=action)
    known = _ACTIONS.get(action)
    if known is None:
        draft.tell("ActionIgnored", f"action {action!r} is unknown; allowed are {', '.join(_ACTIONS)}", "Warning")
    elif not known(draft):
        draft.tell("ActionIgnored", f"action {action} means nothing in phase {draft.state.phase}", "Warning")


def _resume(draft: Draft) -> bool:
    if draft.state.phase != Phase.PAUSED:
        return False
    draft.tell("Resumed", f"step {draft.state.step} is resumed by hand")
    _next_step(draft)
    return True


def _abort(draft: Draft) -> bool:
    if draft.state.phase not in _INTERRUPTIBLE or draft.state.stable_version is None:
        return False
    draft.roll_back("Aborted", "aborted by hand")
    return True


def _promote(draft: Draft) -> bool:
    if draft.state.phase not in {Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED} or not draft.canary_ready:
        return False
    draft.tell("PromotedByHand", f"version {draft.state.canary_version} is promoted by hand")
    _promote_now(draft)
    return True


def _retry(draft: Draft) -> bool:
    desired = draft.state.desired_version
    if draft.state.phase != Phase.FAILED or not draft.state.failed(desired):
        return False
    kept = tuple(entry for entry in draft.state.failed_versions if entry.version != desired)
    draft.tell("Retried", f"version {desired} may be tried again")
    draft.enter(Phase.IDLE, f"version {desired} is tried again", failed_versions=kept)
    return True


_ACTIONS: dict[str, Callable[[Draft], bool]] = {
    "resume": _resume, "abort": _abort, "promote": _promote, "retry": _retry,
}  # fmt: skip


# --- what interrupts a rollout ---------------------------------------------------------------------------------------

_INTERRUPTIBLE = frozenset({Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})


def _interrupted(draft: Draft) -> bool:
    state, canary = draft.state, draft.seen.canary
    version, desired = state.canary_version, state.desired_version
    if desired != version:
        if state.stable_version is None:
            return False
        if desired is None or desired == state.stable_version:
            draft.stop("PointerMovedBack", f"the registry no longer points to version {version}")
        else:
            draft.stop("Superseded", f"version {desired} comes in the middle of version {version}'s rollout")
        return True
    if canary.version == version and canary.failure:
        draft.roll_back("CanaryFailed", canary.failure)
        return True
    return False


# --- the phases ------------------------------------------------------------------------------------------------------


def _initializing(draft: Draft) -> None:
    running, desired = draft.seen.stable.version, draft.state.desired_version
    if running:
        draft.tell("Adopted", f"version {running} is stable already")
        draft.enter(Phase.IDLE, f"version {running} is stable", stable_version=running)
    elif desired:
        _rest(draft)
    else:
        draft.say(_no_version(draft))


def _rest(draft: Draft) -> None:
    """Idle and Failed: keep the stable version, begin what the registry asks for."""
    state, seen = draft.state, draft.seen
    if seen.canary.version is not None:
        draft.actions.append(DeleteCanary())
    _keep_stable(draft)
    desired = state.desired_version
    failed = state.failed(desired)
    if desired is None:
        draft.set(phase=Phase.IDLE if state.stable_version else Phase.INITIALIZING, message=_no_version(draft))
    elif desired == state.stable_version:
        draft.set(phase=Phase.IDLE, message=f"version {desired} is stable")
    elif failed:
        draft.set(phase=Phase.FAILED, message=(
            f"version {desired} was rolled back ({failed.reason}): {failed.message}; "
            "not tried again until asked (creditrisk.io/action: retry) or until the pointer moves"))  # fmt: skip
    elif draft.spec.suspend:
        draft.say(f"suspended; version {desired} waits")
    else:
        draft.begin(desired)


def _starting(draft: Draft) -> None:
    _want_canary(draft)
    _keep_stable(draft)
    canary = draft.seen.canary
    if draft.canary_ready and canary.ready >= draft.spec.canary.replicas:
        if draft.spec.suspend:
            draft.say("suspended; the canary is ready")
        elif draft.spec.skip_analysis:
            _promote_now(draft)
        else:
            _enter_step(draft, 0)
    elif draft.overdue:
        draft.roll_back("ProgressDeadlineExceeded", (
            f"the canary is not ready after {draft.waited:.0f} s: {canary.waiting or 'no pod yet'}"))  # fmt: skip
    else:
        draft.say(f"waiting for the canary: {canary.waiting or 'no pod yet'}")


def _progressing(draft: Draft) -> None:
    _want_canary(draft)
    _keep_stable(draft)
    if _canary_lost(draft) or _steps_changed(draft) or not _step_verified(draft):
        return
    step = plan(draft.spec)[draft.state.step_index]
    elapsed = draft.now - (draft.state.step_started_at or draft.now)
    over = elapsed >= (step.seconds or 0.0)
    if not _judged(draft, at_the_end=over):
        return
    verdict = draft.state.analysis.verdict if draft.state.analysis else Verdict.INCONCLUSIVE
    if not over:
        draft.say(f"step {draft.state.step}: {step.mode} {step.weight} % for {step.seconds:g} s; {_findings(draft)}")
    elif draft.spec.suspend:
        draft.say("suspended at the step's end")
    elif verdict == Verdict.SUCCESSFUL:
        _next_step(draft)
    elif verdict == Verdict.INCONCLUSIVE:
        _insufficient(draft)
    else:
        draft.say(f"step {draft.state.step} is over but not passed; {_findings(draft)}")


def _paused(draft: Draft) -> None:
    _want_canary(draft)
    _keep_stable(draft)
    if _steps_changed(draft):
        return
    state = draft.state
    if state.weight and (_canary_lost(draft) or not _step_verified(draft) or not _judged(draft, at_the_end=False)):
        return
    pause = plan(draft.spec)[state.step_index].seconds if not state.held else None
    if pause is None:
        why = f"for lack of data ({_findings(draft)})" if state.held else "by the spec"
        draft.say(f"step {state.step}: paused {why} until resumed (creditrisk.io/action: resume)")
    elif draft.waited < pause or draft.spec.suspend:
        draft.say(f"step {state.step}: paused for {pause:g} s")
    elif draft.state.analysis and draft.state.analysis.verdict == Verdict.FAILED:
        draft.say(f"step {state.step}: the pause is over but the canary is not passed; {_findings(draft)}")
    else:
        _next_step(draft)


def _promoting(draft: Draft) -> None:
    state, stable = draft.state, draft.seen.stable
    if state.stable_version is None and state.desired_version not in {None, state.canary_version}:
        draft.set(canary_version=state.desired_version, phase_started_at=draft.now)
    version = draft.state.canary_version or ""
    if state.weight and not draft.canary_ready:
        draft.set(weight=0)
    if stable.version != version:
        draft.actions.append(SetStableVersion(version))
        draft.say(f"the stable pods get version {version}")
    elif stable.rolled_out:
        draft.finish()
    elif draft.overdue and state.stable_version is not None:
        draft.roll_back("PromotionDeadlineExceeded", f"the stable pods did not roll to it: {stable.progress}")
    else:
        draft.say(f"the stable pods roll to version {version}: {stable.progress}")


def _draining(draft: Draft) -> None:
    """Finishing, Stopping and RollingBack: weight 0, stable pods as they should be, then no canary."""
    _keep_stable(draft)
    state, stable = draft.state, draft.seen.stable
    lag = draft.route_lag() if state.route.weight == 0 else ["the route is being written"]
    if lag and draft.waited < DRAIN_SECONDS:
        draft.say(f"{_ending(state)}; waiting for weight 0 in {', '.join(lag)}")
    elif stable.version != state.stable_version or not stable.rolled_out:
        draft.say(f"{_ending(state)}; the stable pods roll to version {state.stable_version}: {stable.progress}")
    elif draft.waited < LINGER_SECONDS:
        draft.say(f"{_ending(state)}; the canary finishes its last requests")
    elif draft.seen.canary.version is not None:
        draft.actions.append(DeleteCanary())
        draft.say(f"{_ending(state)}; the canary goes")
    else:
        draft.enter(Phase.FAILED if state.phase == Phase.ROLLING_BACK else Phase.IDLE, _ending(state))


PHASES: dict[Phase, Callable[[Draft], None]] = {
    Phase.INITIALIZING: _initializing,
    Phase.IDLE: _rest,
    Phase.STARTING: _starting,
    Phase.PROGRESSING: _progressing,
    Phase.PAUSED: _paused,
    Phase.PROMOTING: _promoting,
    Phase.FINISHING: _draining,
    Phase.STOPPING: _draining,
    Phase.ROLLING_BACK: _draining,
    Phase.FAILED: _rest,
}


# --- what the phases share -------------------------------------------------------------------------------------------


def _want_canary(draft: Draft) -> None:
    wanted = (draft.state.canary_version, draft.spec.canary.replicas, draft.seen.stable.template)
    canary = draft.seen.canary
    if wanted != (canary.version, canary.replicas, canary.template):
        draft.actions.append(ApplyCanary(draft.state.canary_version or "", draft.spec.canary.replicas))


def _keep_stable(draft: Draft) -> None:
    version = draft.state.stable_version
    if version and draft.seen.stable.version != version:
        draft.actions.append(SetStableVersion(version))


def _steps_changed(draft: Draft) -> bool:
    """Enter the step anew when the spec's steps were changed under it."""
    state, steps = draft.state, plan(draft.spec)
    index = min(state.step_index, len(steps) - 1)
    wanted = (f"{index + 1}/{len(steps)}", steps[index].weight)
    if (state.step, state.weight) == wanted and (state.held or (steps[index].mode == "pause") == (
        state.phase == Phase.PAUSED)):  # fmt: skip
        return False
    _enter_step(draft, index)
    return True


def _enter_step(draft: Draft, index: int) -> None:
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


def _next_step(draft: Draft) -> None:
    following = draft.state.step_index + 1
    if following < len(plan(draft.spec)):
        _enter_step(draft, following)
    else:
        _promote_now(draft)


def _promote_now(draft: Draft) -> None:
    version = draft.state.canary_version
    draft.tell("Promoting", f"the stable pods roll from {draft.state.stable_version} to {version}")
    steps, index = plan(draft.spec), draft.state.step_index
    live = draft.state.phase != Phase.STARTING and steps[index].mode != "shadow"
    draft.enter(Phase.PROMOTING, f"the stable pods roll to version {version}", step="",
                weight=draft.state.weight if live else 0)  # fmt: skip


def _canary_lost(draft: Draft) -> bool:
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


def _step_verified(draft: Draft) -> bool:
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


def _judged(draft: Draft, *, at_the_end: bool) -> bool:
    """Judge when it is time; return False when that ended the step."""
    spec, state = draft.spec, draft.state
    interval = seconds(spec.analysis.interval)
    last = state.analysis.at if state.analysis else None
    first_at_end = at_the_end and last is None
    if draft.now - state.analyzed_at < interval and not first_at_end:
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
        draft.roll_back("AnalysisFailed", _findings(draft))
    elif errors >= spec.analysis.error_limit:
        draft.roll_back("AnalysisError", f"{errors} times in a row: {_findings(draft)}")
    return draft.state.phase != Phase.ROLLING_BACK


def _insufficient(draft: Draft) -> None:
    choice = draft.spec.analysis.on_insufficient_data
    if choice == OnInsufficientData.PROCEED:
        draft.tell("InsufficientData", f"going on without enough data: {_findings(draft)}", "Warning")
        _next_step(draft)
    elif choice == OnInsufficientData.PAUSE:
        draft.tell("InsufficientData", f"paused: {_findings(draft)}", "Warning")
        draft.enter(Phase.PAUSED, f"paused: {_findings(draft)}", held=True)
    else:
        draft.say(f"step {draft.state.step} is over, waiting for data: {_findings(draft)}")


def _findings(draft: Draft) -> str:
    analysis = draft.state.analysis
    if analysis is None:
        return "nothing judged yet"
    worst = [result.message for result in analysis.results if result.verdict == analysis.verdict]
    return f"{analysis.verdict}: {'; '.join(worst)}"


def _no_version(draft: Draft) -> str:
    if draft.seen.registry.error:
        return f"the registry could not be asked: {draft.seen.registry.error}"
    kind, value = draft.spec.model.pointer
    return f"the registry has no version of {draft.spec.model.name} with the {kind} {value}"


def _ending(state: State) -> str:
    if state.phase == Phase.FINISHING:
        return f"version {state.stable_version} is stable"
    return f"version {state.canary_version} is taken back ({state.reason})"
