"""Conditions as metav1.Condition: constant reasons, messages with numbers, a time that changes only with the status."""

from __future__ import annotations

from typing import Literal

from promoter.api.status import RESTING, Condition, Event, Phase, State
from promoter.api.timestamps import to_whole_seconds_text
from promoter.decision.observation import Observation

Status = Literal["True", "False", "Unknown"]
StallReason = Literal["InvalidSpec", "TargetTaken", "TargetForbidden", "Blocked"]
TARGET_NOT_FOUND = "TargetNotFound"
# Type, status, reason and message.
Row = tuple[str, Status, str, str]
_FAULT_PREFIXES = {"Refused": "refused", "Retrying": "retrying"}


def conditions(state: State, observed: Observation, now: float) -> tuple[Condition, ...]:
    """Return the conditions for a state and what was observed."""
    rows = (
        _ready(state, observed), _progressing(state), _promoted(state), _degraded(state, observed), _registry(observed),
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
    return "Ready", "True", "Serving", f"version {state.stable_version} is served"


def _progressing(state: State) -> Row:
    return "Progressing", "False" if state.phase in RESTING else "True", state.phase.value, state.message


def _promoted(state: State) -> Row:
    desired = state.desired_version
    done = state.phase in {Phase.IDLE, Phase.FINISHING} and desired is not None and desired == state.stable_version
    if done:
        return "Promoted", "True", "Promoted", f"version {desired} is stable"
    if failed := state.failed(desired):
        return "Promoted", "False", failed.reason, failed.message
    return "Promoted", "False", "NotYet", state.message


def _degraded(state: State, observed: Observation) -> Row:
    if failed := state.failed(state.desired_version):
        return "Degraded", "True", failed.reason, failed.message
    if not observed.stable.exists:
        return "Degraded", "True", TARGET_NOT_FOUND, state.message
    return "Degraded", "False", "AsExpected", "no problem is known"


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
