"""What to do next: from spec, state, observation and time to a new state and actions.

The phases of a promotion; every arrow is a function below, every phase a row of `PHASES`:

    Initializing -> Idle | Promoting (first version)
    Idle         -> Starting | Promoting (first, or stable recently) | Failed (the pointer names a failed version)
    Starting     -> Progressing | Paused | Promoting (skipAnalysis, or manually)
    Progressing <-> Paused -> Promoting -> Finishing -> Idle
    Starting, Progressing, Paused, Promoting -> Stopping -> Idle       pointer moved, or an experiment is complete
    Starting, Progressing, Paused, Promoting -> RollingBack -> Failed  version is worse
    Progressing, Paused -> Starting                                    no canary pod is left
    Failed       -> Idle                                               pointer moved back
    Failed       -> Starting | Promoting (stable recently)             pointer moved on, or retry
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promoter.api.spec import Spec
from promoter.api.status import INTERRUPTIBLE, AnalysisResult, Phase, State, Verdict
from promoter.decision import approving
from promoter.decision.actions import Action, ApplyRoute, DeleteCanary, SetStableVersion, TagVersion
from promoter.decision.analysis import analyze, describe_analysis, step_elapsed
from promoter.decision.approvals import asked_now, missing_now
from promoter.decision.artifacts import config_maps_for, ensure_artifacts, settle_artifacts
from promoter.decision.capacity import note_outages, scale_in_problem, settle_autoscalers
from promoter.decision.conditions import TARGET_NOT_FOUND, conditions
from promoter.decision.draft import Draft
from promoter.decision.drift import settle_drift
from promoter.decision.everyone import ensure_canary, everyone_at_canary, give_room_back
from promoter.decision.experiment import completed
from promoter.decision.manual_actions import handle_manual_action, manual_actions
from promoter.decision.observation import Observation, StableView
from promoter.decision.plan import plan
from promoter.decision.replicas import pods_in_steps
from promoter.decision.retraining import settle_retraining
from promoter.decision.routing import route_document, wanted_route
from promoter.decision.steps import (
    ends_by_time,
    enter_step,
    handle_insufficient_data,
    next_step,
    promote,
    reenter_changed_step,
    restart_without_canary,
    step_verified,
)
from promoter.decision.way_back import kept_version, remember_former

# How long the stable pods get to apply weight 0 before the canary is deleted; requests then fall back to them anyway.
DRAIN_SECONDS = 30.0
# How long the canary outlives its route, to finish the answers in progress.
LINGER_SECONDS = 3.0
MANUAL_ACTIONS = manual_actions(next_step=next_step, promote=promote)


@dataclass(frozen=True)
class Decision:
    """The new state, and the actions; all of them may be repeated.

    `judgment` is the newest analysis, even if it ended its step; `performed` the manual action that was performed.
    """

    state: State
    actions: tuple[Action, ...]
    judgment: AnalysisResult | None = None
    performed: str = ""


def decide(spec: Spec, generation: int, state: State, observed: Observation, now: float) -> Decision:
    """Make one decision.

    Args:
        spec: The desired state; valid.
        generation: The generation of the spec.
        state: The state after the last decision.
        observed: Registry, cluster and pods as they are now.
        now: Seconds since 1970.
    """
    draft = Draft(spec, state, observed, now, judgment=state.analysis)
    draft.update(observed_generation=generation, target=spec.target_ref.name)
    if not observed.registry.error:
        draft.update(desired_version=observed.registry.desired)
    if not observed.stable.exists:
        _report_missing_target(draft)
    else:
        approving.take_approvals(draft)
        handle_manual_action(draft, MANUAL_ACTIONS, approving.bypassed)
        if draft.state.phase not in INTERRUPTIBLE or not _interrupted(draft):
            PHASES[draft.state.phase](draft)
    _settle(draft)
    return Decision(draft.state, tuple(draft.actions), draft.judgment, draft.performed)


def _report_missing_target(draft: Draft) -> None:
    name, known = draft.spec.target_ref.name, draft.state.condition("Ready")
    message = (f"{TARGET_NOT_FOUND}: Deployment {name} does not exist; create it, or delete this ModelPromotion and "
               "create one with another spec.targetRef.name")  # fmt: skip
    if known is None or known.reason != TARGET_NOT_FOUND:
        draft.add_event(TARGET_NOT_FOUND, message.removeprefix(f"{TARGET_NOT_FOUND}: "), "Warning")
    draft.set_message(message)
    if draft.observed.canary.version is not None:
        # Only stable pods send it requests. If the target comes back, the rollout starts over.
        draft.actions.append(DeleteCanary())


def _settle(draft: Draft) -> None:
    """Bring the route, the tags and the conditions in line with the decision."""
    draft.update(route=wanted_route(draft.spec, draft.state, draft.now, increase_unseen=draft.increase_unseen))
    route = draft.state.route
    if not draft.pods_without_route() and (draft.observed.pods or not route.weight):
        draft.update(verified_weight=route.weight if route.mode == "live" else 0)
    document = route_document(draft.spec, route)
    if draft.observed.stable.exists and draft.observed.route != document and route.generation:
        # Before all other actions: a weight that decreases must decrease first.
        draft.actions.insert(0, ApplyRoute(document))
    draft.actions += [TagVersion(version, tags) for version, tags in draft.state.pending_tags.items()]
    if draft.state.phase in {Phase.IDLE, Phase.FAILED}:
        draft.update(canary_version=None, step="")
    settle_artifacts(draft)
    settle_autoscalers(draft)
    note_outages(draft)
    settle_drift(draft)
    settle_retraining(draft)
    draft.update(conditions=conditions(draft.state, draft.observed, draft.now))


# --- what interrupts a rollout ---------------------------------------------------------------------------------------


def _interrupted(draft: Draft) -> bool:
    state, canary = draft.state, draft.observed.canary
    version, desired = state.canary_version, state.desired_version
    if desired != version:
        if state.stable_version is None:
            return False
        if desired is None or desired == state.stable_version:
            draft.stop("PointerMovedBack", f"the registry no longer points to version {version}")
        else:
            draft.stop("Superseded", f"version {desired} replaces version {version} during its rollout")
        return True
    if canary.version == version and canary.failure:
        draft.roll_back("CanaryFailed", canary.failure)
        return True
    return approving.stopped_for_others(draft)


# --- the phases ------------------------------------------------------------------------------------------------------


def _initializing(draft: Draft) -> None:
    running, desired = draft.observed.stable.version, draft.state.desired_version
    if running:
        draft.add_event("Adopted", f"version {running} is stable already")
        draft.enter_phase(Phase.IDLE, f"version {running} is stable", stable_version=running)
    elif desired:
        _resting(draft)
    else:
        draft.set_message(_missing_version_message(draft))


def _resting(draft: Draft) -> None:
    """Idle and Failed: keep the stable version, and start the rollout that the pointer asks for."""
    state = draft.state
    _tidy_canary(draft)
    _ensure_stable_version(draft)
    desired = state.desired_version
    if desired not in {None, state.completed_version}:
        draft.update(completed_version=None)
    failed = state.failed(desired)
    if desired is None:
        phase = Phase.IDLE if state.stable_version else Phase.INITIALIZING
        draft.update(phase=phase, message=_missing_version_message(draft))
    elif desired == state.stable_version:
        draft.update(phase=Phase.IDLE, message=f"version {desired} is stable")
    elif failed:
        draft.update(phase=Phase.FAILED, message=(
            f"version {desired} was rolled back ({failed.reason}): {failed.message}; "
            "not tried again until requested (creditrisk.io/action: retry) or the pointer moves"))  # fmt: skip
    elif completed(draft.spec, state):
        draft.update(phase=Phase.IDLE, message=(
            f"the experiment with version {desired} is complete; not repeated until requested (creditrisk.io/action: "
            "retry) or the pointer moves"))  # fmt: skip
    elif draft.spec.suspend:
        draft.set_message(f"suspended; version {desired} is waiting")
    else:
        draft.begin(desired)


def _starting(draft: Draft) -> None:
    _ensure_stable_version(draft)
    canary, version = draft.observed.canary, draft.state.canary_version or ""
    if not ensure_artifacts(draft, version) and canary.version != version:
        _wait_for_artifacts(draft, version)
        return
    ensure_canary(draft, _pods(draft))
    if draft.canary_ready and canary.ready >= _pods(draft):
        if draft.spec.suspend:
            draft.set_message("suspended; the canary is ready")
        elif not _promote_without_analysis(draft):
            _enter_first_step(draft)
    elif draft.overdue:
        draft.roll_back(
            "ProgressDeadlineExceeded", f"the canary is not ready after {draft.waited:.0f} s: {_lack(draft)}"
        )
    else:
        draft.set_message(f"waiting for the canary: {_lack(draft)}")


def _enter_first_step(draft: Draft) -> None:
    """Enter the first step, but not while a rollback could find fewer stable pods than there are now."""
    if problem := scale_in_problem(draft):
        draft.set_message(f"the canary is ready; waiting until no autoscaler scales the stable pods in: {problem}")
    else:
        enter_step(draft, 0)


def _lack(draft: Draft) -> str:
    """Return what the canary lacks."""
    canary, wanted = draft.observed.canary, _pods(draft)
    count = f"{canary.ready} of {wanted} pods are ready" if canary.ready else ""
    return "; ".join(filter(None, (count, canary.waiting, canary.refused))) or "no pod yet"


def _progressing(draft: Draft) -> None:
    ensure_canary(draft, _pods(draft))
    _ensure_stable_version(draft)
    if restart_without_canary(draft) or _promote_without_analysis(draft) or reenter_changed_step(draft):
        return
    if not step_verified(draft) or not analyze(draft):
        return
    if step_elapsed(draft.spec, draft.state, draft.now):
        _leave_step(draft)
    else:
        step = plan(draft.spec)[draft.state.step_index]
        draft.set_message(f"step {draft.state.step}: {step.mode} {step.weight} % for {step.seconds:g} s; "
                          f"{describe_analysis(draft)}")  # fmt: skip


def _promote_without_analysis(draft: Draft) -> bool:
    """Promote a ready canary at once if the spec skips the analysis; return whether it does."""
    wanted = draft.spec.skip_analysis and not draft.spec.suspend
    if wanted:
        promote(draft)
    return wanted


def _leave_step(draft: Draft) -> None:
    """Leave a step or a timed pause whose time is up, if the verdict allows it."""
    state = draft.state
    verdict = state.analysis.verdict if state.analysis else Verdict.INCONCLUSIVE
    if draft.spec.suspend:
        draft.set_message(f"step {state.step} is complete; suspended")
    elif verdict == Verdict.SUCCESSFUL or not state.weight or ends_by_time(draft):
        next_step(draft)
    elif verdict == Verdict.INCONCLUSIVE:
        handle_insufficient_data(draft, describe_analysis(draft))
    else:
        draft.set_message(f"step {state.step} is complete but not passed; {describe_analysis(draft)}")


def _paused(draft: Draft) -> None:
    ensure_canary(draft, _pods(draft))
    _ensure_stable_version(draft)
    if restart_without_canary(draft) or _promote_without_analysis(draft) or reenter_changed_step(draft):
        return
    state = draft.state
    if state.weight and (not step_verified(draft) or not analyze(draft)):
        return
    pause = plan(draft.spec)[state.step_index].seconds if not state.paused_for_data else None
    if lacking := missing_now(draft.spec, state):
        approving.wait_for_approvals(draft, lacking)
    elif pause is None and asked_now(draft.spec, state):
        approving.leave_approved_pause(draft, next_step)
    elif pause is None:
        why = f" because of insufficient data ({describe_analysis(draft)})" if state.paused_for_data else ""
        draft.set_message(f"step {state.step}: paused until resumed (creditrisk.io/action: resume){why}")
    elif step_elapsed(draft.spec, draft.state, draft.now):
        _leave_step(draft)
    else:
        draft.set_message(f"step {state.step}: paused for {pause:g} s")


def _promoting(draft: Draft) -> None:
    state, stable = draft.state, draft.observed.stable
    if state.stable_version is None and state.desired_version not in {None, state.canary_version}:
        draft.update(canary_version=state.desired_version, phase_started_at=draft.now)
    version = draft.state.canary_version or ""
    if state.weight and not draft.canary_ready:
        draft.update(weight=0)
    config_maps = config_maps_for(draft, version)
    if stable.version != version and not ensure_artifacts(draft, version):
        _wait_for_artifacts(draft, version)
    elif stable.version != version and not everyone_at_canary(draft):
        return
    elif (stable.version, stable.config_maps) != (version, config_maps):
        draft.actions.append(SetStableVersion(version, config_maps))
        draft.set_message(f"updating the stable pods to version {version}")
    elif stable.rolled_out and (draft.overdue or not stable.outdated):
        # Not before: a pod that is stopping still answers, and would answer by the old version without the route.
        draft.finish()
        remember_former(draft)
    elif draft.overdue and state.stable_version is not None:
        draft.roll_back(
            "PromotionDeadlineExceeded", f"the rolling update of the stable pods did not finish: {_progress(stable)}"
        )
    else:
        give_room_back(draft)
        draft.set_message(f"updating the stable pods to version {version}: {_progress(stable)}")


def _draining(draft: Draft) -> None:
    """Finishing, Stopping and RollingBack: weight 0, no canary, the stable pods on their version.

    That includes pods that are not available: a template that cannot start has nothing to do with this rollout.
    """
    _ensure_stable_version(draft)
    state, stable = draft.state, draft.observed.stable
    lagging = draft.pods_without_route() if state.route.weight == 0 else ["the route is being written"]
    if lagging and draft.waited < DRAIN_SECONDS:
        draft.set_message(f"{draft.outcome}; waiting for weight 0: {', '.join(lagging)}")
    elif draft.waited < LINGER_SECONDS:
        draft.set_message(f"{draft.outcome}; the canary is finishing its last requests")
    elif not _tidy_canary(draft):
        # Before the stable pods are back: they may need the room or the quota that the canary takes.
        draft.set_message(f"{draft.outcome}; deleting the canary")
    elif stable.version != state.stable_version or stable.outdated:
        draft.set_message(f"{draft.outcome}; updating the stable pods to version {state.stable_version}: "
                          f"{_progress(stable)}")  # fmt: skip
    else:
        draft.enter_phase(Phase.FAILED if state.phase == Phase.ROLLING_BACK else Phase.IDLE, draft.outcome)


PHASES: dict[Phase, Callable[[Draft], None]] = {
    Phase.INITIALIZING: _initializing,
    Phase.IDLE: _resting,
    Phase.STARTING: _starting,
    Phase.PROGRESSING: _progressing,
    Phase.PAUSED: _paused,
    Phase.PROMOTING: _promoting,
    Phase.FINISHING: _draining,
    Phase.STOPPING: _draining,
    Phase.ROLLING_BACK: _draining,
    Phase.FAILED: _resting,
}


# --- what the phases share -------------------------------------------------------------------------------------------


def _ensure_stable_version(draft: Draft) -> None:
    version, stable = draft.state.stable_version, draft.observed.stable
    config_maps = config_maps_for(draft, version)
    if version and (stable.version, stable.config_maps) != (version, config_maps):
        draft.actions.append(SetStableVersion(version, config_maps))


def _pods(draft: Draft) -> int:
    return pods_in_steps(draft.spec, draft.observed.stable)


def _tidy_canary(draft: Draft) -> bool:
    """Delete the canary, or let it serve the version that is kept; return whether nothing is left to be deleted."""
    if version := kept_version(draft):
        ensure_canary(draft, _pods(draft), version)
    elif draft.observed.canary.version is not None:
        draft.actions.append(DeleteCanary())
        return False
    return True


def _wait_for_artifacts(draft: Draft, version: str) -> None:
    """Wait until a version's files are copied; a rollout gives up after its deadline, the first version never does."""
    problem, error = draft.state.artifacts_problem, draft.observed.registry.error
    why = f": {problem.message}" if problem and problem.version == version else f": {error}" if error else ""
    if draft.overdue and draft.state.stable_version is not None:
        draft.roll_back("ProgressDeadlineExceeded", (
            f"its files could not be copied into the cluster within {draft.waited:.0f} s{why}"))  # fmt: skip
    else:
        draft.set_message(f"copying the files of version {version} into the cluster{why}")


def _progress(stable: StableView) -> str:
    """Return how far a rolling update is, and what it is waiting for."""
    old = ", ".join(stable.outdated)
    stopping = f"waiting for the end of {old}" if stable.rolled_out and old else ""
    return "; ".join(filter(None, (stable.progress, stable.stalled or stable.waiting or stopping)))


def _missing_version_message(draft: Draft) -> str:
    if draft.observed.registry.error:
        return f"waiting for the registry: {draft.observed.registry.error}"
    kind, value = draft.spec.model.pointer
    return f"the registry has no version of {draft.spec.model.name} with {kind} {value}"
