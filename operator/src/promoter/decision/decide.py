"""What to do next: from spec, state, observation and time to a new state and actions. Pure.

The way of a version; every arrow is a function below, every phase a row of `PHASES`:

    Initializing -> Idle | Promoting (first version)
    Idle         -> Starting | Promoting (first, or stable lately) | Failed (the pointer is at a failed version)
    Starting     -> Progressing | Paused | Promoting (skipAnalysis, or by hand)
    Progressing <-> Paused -> Promoting -> Finishing -> Idle
    Starting, Progressing, Paused, Promoting -> Stopping -> Idle       pointer moved
    Starting, Progressing, Paused, Promoting -> RollingBack -> Failed  version is worse
    Progressing, Paused -> Starting                                    every canary pod is gone
    Failed       -> Idle                                               pointer moved back
    Failed       -> Starting | Promoting (stable lately)               pointer moved on, or retry
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promoter.api.spec import Spec
from promoter.decision.conditions import conditions
from promoter.decision.draft import Draft, plan, route_document, wanted_route
from promoter.decision.manual_actions import by_hand
from promoter.decision.observation import (
    Action,
    ApplyCanary,
    ApplyRoute,
    DeleteCanary,
    Observation,
    SetStableVersion,
    TagVersion,
)
from promoter.decision.schedule import findings, insufficient, judged, step_over
from promoter.decision.state import INTERRUPTIBLE, Phase, State, Verdict
from promoter.decision.steps import canary_lost, enter_step, next_step, promote_now, step_verified, steps_changed

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
        by_hand(draft)
        if draft.state.phase not in INTERRUPTIBLE or not _interrupted(draft):
            PHASES[draft.state.phase](draft)
    _settle(draft)
    return Decision(draft.state, tuple(draft.actions))


def _settle(draft: Draft) -> None:
    """Bring the route, the tags and the conditions in line with what was decided."""
    draft.set(route=wanted_route(draft.spec, draft.state, draft.now, unheard=draft.unheard))
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


# --- what interrupts a rollout ---------------------------------------------------------------------------------------


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
        elif not _unjudged(draft):
            enter_step(draft, 0)
    elif draft.overdue:
        draft.roll_back("ProgressDeadlineExceeded", (
            f"the canary is not ready after {draft.waited:.0f} s: {canary.waiting or 'no pod yet'}"))  # fmt: skip
    else:
        draft.say(f"waiting for the canary: {canary.waiting or 'no pod yet'}")


def _progressing(draft: Draft) -> None:
    _want_canary(draft)
    _keep_stable(draft)
    if canary_lost(draft) or _unjudged(draft) or steps_changed(draft) or not step_verified(draft):
        return
    if not judged(draft):
        return
    if step_over(draft.spec, draft.state, draft.now):
        _pass(draft)
    else:
        step = plan(draft.spec)[draft.state.step_index]
        draft.say(f"step {draft.state.step}: {step.mode} {step.weight} % for {step.seconds:g} s; {findings(draft)}")


def _unjudged(draft: Draft) -> bool:
    """Promote a ready canary at once where the spec wants no judging; return whether that was so."""
    wanted = draft.spec.skip_analysis and not draft.spec.suspend
    if wanted:
        promote_now(draft)
    return wanted


def _pass(draft: Draft) -> None:
    """Leave a step or a timed pause whose time is up, when the canary's answers allow it."""
    state = draft.state
    verdict = state.analysis.verdict if state.analysis else Verdict.INCONCLUSIVE
    if draft.spec.suspend:
        draft.say(f"step {state.step} is over; suspended")
    elif verdict == Verdict.SUCCESSFUL or not state.weight:
        next_step(draft)
    elif verdict == Verdict.INCONCLUSIVE:
        insufficient(draft)
    else:
        draft.say(f"step {state.step} is over but not passed; {findings(draft)}")


def _paused(draft: Draft) -> None:
    _want_canary(draft)
    _keep_stable(draft)
    if canary_lost(draft) or _unjudged(draft) or steps_changed(draft):
        return
    state = draft.state
    if state.weight and (not step_verified(draft) or not judged(draft)):
        return
    pause = plan(draft.spec)[state.step_index].seconds if not state.held else None
    if pause is None:
        why = f"for lack of data ({findings(draft)})" if state.held else "by the spec"
        draft.say(f"step {state.step}: paused {why} until resumed (creditrisk.io/action: resume)")
    elif step_over(draft.spec, draft.state, draft.now):
        _pass(draft)
    else:
        draft.say(f"step {state.step}: paused for {pause:g} s")


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


def _no_version(draft: Draft) -> str:
    if draft.seen.registry.error:
        return f"the registry could not be asked: {draft.seen.registry.error}"
    kind, value = draft.spec.model.pointer
    return f"the registry has no version of {draft.spec.model.name} with the {kind} {value}"


def _ending(state: State) -> str:
    if state.phase == Phase.FINISHING:
        return f"version {state.stable_version} is stable"
    return f"version {state.canary_version} is taken back ({state.reason})"
