"""Conditions as metav1.Condition: constant reasons, messages with numbers, a time that moves only on a flip."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from promoter.decision.observation import Observation
from promoter.decision.state import RESTING, Condition, Phase, State

Status = Literal["True", "False", "Unknown"]
Row = tuple[str, Status, str, str]
_TROUBLES = {"Refused": "refused", "Retrying": "trying again"}


def conditions(state: State, seen: Observation, now: float) -> tuple[Condition, ...]:
    """Return the conditions that fit a state and what was seen."""
    rows = (_ready(state, seen), _progressing(state), _promoted(state), _degraded(state, seen), _registry(seen))
    return tuple(_condition(state, now, row) for row in rows)


def blocked(state: State, reason: str, message: str, generation: int, now: float) -> State:
    """Return the state of an object that cannot be worked on (InvalidSpec, Blocked): nothing moves, and it says so."""
    state = state.model_copy(update={"observed_generation": generation, "message": f"{reason}: {message}"})
    rows: tuple[Row, ...] = (
        ("Ready", "False", reason, message),
        ("Progressing", "False", reason, message),
        ("Promoted", "False", reason, message),
        ("Degraded", "True", reason, message),
    )
    changed = tuple(_condition(state, now, row) for row in rows)
    kept = tuple(old for old in state.conditions if old.type not in {new.type for new in changed})
    return state.model_copy(update={"conditions": (*changed, *kept)})


def troubled(state: State, before: State, reason: Literal["Refused", "Retrying"], message: str, now: float) -> State:
    """Return a state in which something outside does not play along: it stands, says so, and is tried again.

    Args:
        state: What was decided.
        before: The state that the status holds; its condition tells since when.
        reason: Refused, or Retrying what did not answer.
        message: What was refused, or did not answer.
        now: Seconds since 1970.
    """
    row: Row = ("Degraded", "True", reason, message)
    known = before.model_copy(update={"observed_generation": state.observed_generation})
    others = tuple(old for old in state.conditions if old.type != "Degraded")
    text = state.message or state.phase.value
    for word in _TROUBLES.values():
        text = text.partition(f"; {word}: ")[0]
    text = f"{text}; {_TROUBLES[reason]}: {message}"
    return state.model_copy(update={"message": text, "conditions": (*others, _condition(known, now, row))})


def _ready(state: State, seen: Observation) -> Row:
    if not seen.stable.exists:
        return "Ready", "False", "TargetMissing", state.message
    if state.stable_version is None:
        return "Ready", "False", "NoVersion", state.message
    return "Ready", "True", "Serving", f"version {state.stable_version} serves"


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


def _degraded(state: State, seen: Observation) -> Row:
    if failed := state.failed(state.desired_version):
        return "Degraded", "True", failed.reason, failed.message
    if not seen.stable.exists:
        return "Degraded", "True", "TargetMissing", state.message
    return "Degraded", "False", "AsExpected", "nothing is wrong"


def _registry(seen: Observation) -> Row:
    if seen.registry.error:
        return "RegistryReachable", "False", "Unreachable", seen.registry.error
    return "RegistryReachable", "True", "Reachable", "the registry answers"


def _condition(state: State, now: float, row: Row) -> Condition:
    kind, status, reason, message = row
    old = next((condition for condition in state.conditions if condition.type == kind), None)
    since = old.last_transition_time if old and old.status == status else timestamp(now)
    return Condition(type=kind, status=status, reason=reason, message=message[:4096], last_transition_time=since,
                     observed_generation=state.observed_generation)  # fmt: skip


def timestamp(now: float) -> str:
    """Return seconds since 1970 as Kubernetes writes times."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
