"""Conditions as metav1.Condition: constant reasons, messages with numbers, a time that changes only with the status."""

from __future__ import annotations

from typing import Literal

from promoter.api.status import RESTING, Condition, Event, Phase, State
from promoter.api.timestamps import to_whole_seconds_text
from promoter.decision.copies import copy_of
from promoter.decision.observation import Observation, StableView
from promoter.decision.reports import drifted_row, retraining_row

Status = Literal["True", "False", "Unknown"]
StallReason = Literal["InvalidSpec", "TargetTaken", "TargetForbidden", "Blocked", "ApprovalsDisabled"]
TARGET_NOT_FOUND = "TargetNotFound"
# Shorter than these, a pod that restarts or a registry that rolls is nothing to report.
CAPACITY_GRACE_SECONDS, REGISTRY_GRACE_SECONDS = 15.0, 60.0
# Type, status, reason and message.
Row = tuple[str, Status, str, str]
_FAULT_PREFIXES = {"Refused": "refused", "Retrying": "retrying"}


def conditions(state: State, observed: Observation, now: float) -> tuple[Condition, ...]:
    """Return the conditions for a state and what was observed."""
    rows = (
        _ready(state, observed), _progressing(state), _promoted(state), _degraded(state, observed, now),
        _registry(observed), _artifacts(state, observed), drifted_row(state, observed, now),
        *filter(None, [retraining_row(state)]),
    )  # fmt: skip
    return tuple(_condition(state, now, row) for row in rows)


def stalled(state: State, reason: StallReason, message: str, generation: int, now: float) -> State:
    """Return the state of a promotion that nothing is done for until a user changes something.

    Conditions and message say why. The Event is added once, not at every poll.
    """
    known = state.condition("Degraded")
    state = state.model_copy(update={"observed_generation": generation, "message": f"{reason}: {message}"})
    rows: tuple[Row, ...] = (
        ("Ready", "False", reason, message),
        ("Progressing", "False", reason, message),
        ("Promoted", "False", reason, message),
        ("Degraded", "True", reason, message),
    )
    changed = tuple(_condition(state, now, row) for row in rows)
    kept = tuple(old for old in state.conditions if old.type not in {new.type for new in changed})
    events = state.pending_events
    if known is None or (known.reason, known.message) != (changed[-1].reason, changed[-1].message):
        events = (*events, Event(reason=reason, message=message, type="Warning", at=now))
    return state.model_copy(update={"conditions": (*changed, *kept), "pending_events": events})


def degraded(state: State, before: State, reason: Literal["Refused", "Retrying"], message: str, now: float) -> State:
    """Return a state in which a call to another system fails; the state stays as decided, and the call is retried.

    Args:
        state: What was decided.
        before: The state in the stored status; its condition has the transition time.
        reason: Refused (by the API server), or Retrying (no answer).
        message: The error.
        now: Seconds since 1970.
    """
    row: Row = ("Degraded", "True", reason, message)
    known = before.model_copy(update={"observed_generation": state.observed_generation})
    others = tuple(old for old in state.conditions if old.type != "Degraded")
    text = state.message or state.phase.value
    for prefix in _FAULT_PREFIXES.values():
        text = text.partition(f"; {prefix}: ")[0]
    text = f"{text}; {_FAULT_PREFIXES[reason]}: {message}"
    return state.model_copy(update={"message": text, "conditions": (*others, _condition(known, now, row))})


def _ready(state: State, observed: Observation) -> Row:
    if not observed.stable.exists:
        return "Ready", "False", TARGET_NOT_FOUND, state.message
    if state.stable_version is None:
        return "Ready", "False", "NoVersion", state.message
    message = f"version {state.stable_version} is served by {_pods(observed.stable)}"
    if not observed.stable.available:
        return "Ready", "False", "NoPodAvailable", message
    return "Ready", "True", "Serving", message


def _progressing(state: State) -> Row:
    return "Progressing", "False" if state.phase in RESTING else "True", state.phase.value, state.message


def _promoted(state: State) -> Row:
    desired = state.desired_version
    done = state.phase in {Phase.IDLE, Phase.FINISHING} and desired is not None and desired == state.stable_version
    if done:
        return "Promoted", "True", "Promoted", f"version {desired} is stable"
    if failed := state.failed(desired):
        return "Promoted", "False", failed.reason, failed.message
    if desired is not None and desired == state.completed_version:
        return "Promoted", "False", "ExperimentCompleted", state.message
    return "Promoted", "False", "NotYet", state.message


def _degraded(state: State, observed: Observation, now: float) -> Row:
    if not observed.stable.exists:
        return "Degraded", "True", TARGET_NOT_FOUND, state.message
    problem = _capacity(state, observed, now) or _outage(state, observed, now) or _autoscaling(observed)
    if problem:
        return "Degraded", "True", *problem
    if failed := state.failed(state.desired_version):
        return "Degraded", "True", failed.reason, failed.message
    if problem := _not_kept(state, now):
        return "Degraded", "True", *problem
    return "Degraded", "False", "AsExpected", "no problem is known"


def _capacity(state: State, observed: Observation, now: float) -> tuple[str, str] | None:
    since, stable = state.capacity_low_since, observed.stable
    if since is not None and now - since >= CAPACITY_GRACE_SECONDS:
        why = stable.stalled or stable.waiting
        served = f"version {state.stable_version} is served by {_pods(stable)} only"
        return "CapacityLow", f"{served}: {why}" if why else served
    return ("PodsCannotStart", stable.stalled) if stable.stalled else None


def _outage(state: State, observed: Observation, now: float) -> tuple[str, str] | None:
    """Return what keeps the next rollout, or the next pod, from working, though requests are answered."""
    since, version = state.registry_unreachable_since, state.stable_version
    if since is not None and now - since >= REGISTRY_GRACE_SECONDS:
        return "RegistryUnreachable", (
            f"the registry has not answered since {to_whole_seconds_text(since)}: {observed.registry.error}"
        )
    if observed.registry.stable_missing:
        kept = copy_of(state, observed, version)
        pods = "pods start from the copy in the cluster" if kept else "no new pod can start"
        return "StableVersionMissing", f"the registry no longer has version {version}; {pods}"
    return None


def _autoscaling(observed: Observation) -> tuple[str, str] | None:
    """Return what keeps every rollout from its first step."""
    return ("AutoscalersForbidden", observed.autoscalers_error) if observed.autoscalers_error else None


def _not_kept(state: State, now: float) -> tuple[str, str] | None:
    problem = state.artifacts_problem
    if problem is None or (problem.reason == "RegistryUnavailable" and now - problem.since < REGISTRY_GRACE_SECONDS):
        return None
    return "ArtifactsNotKept", f"version {problem.version}: {problem.message}"


def _artifacts(state: State, observed: Observation) -> Row:
    problem, stable = state.artifacts_problem, state.stable_version
    if problem:
        return "ArtifactsKept", "False", problem.reason, f"version {problem.version}: {problem.message}"
    kept = [copy.version for copy in state.artifacts if copy_of(state, observed, copy.version)]
    if stable not in kept:
        lost = any(copy.version == stable for copy in state.artifacts)
        why = f"a ConfigMap of version {stable} was deleted" if lost else "no files are kept in the cluster yet"
        return "ArtifactsKept", "False", "Incomplete" if lost else "NotYet", why
    return "ArtifactsKept", "True", "Kept", f"kept in the cluster: the files of version {', '.join(kept)}"


def _pods(stable: StableView) -> str:
    # During a rolling update more pods than wanted are available.
    return f"{min(stable.available, stable.wanted)} of {stable.wanted} pods"


def _registry(observed: Observation) -> Row:
    if observed.registry.error:
        return "RegistryReachable", "False", "Unreachable", observed.registry.error
    return "RegistryReachable", "True", "Reachable", "the registry answers"


def _condition(state: State, now: float, row: Row) -> Condition:
    kind, status, reason, message = row
    old = state.condition(kind)
    since = old.last_transition_time if old and old.status == status else to_whole_seconds_text(now)
    return Condition(type=kind, status=status, reason=reason, message=message[:4096], last_transition_time=since,
                     observed_generation=state.observed_generation)  # fmt: skip
