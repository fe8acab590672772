"""What people should be told about a change of the state, noted in the same status that holds the change.

An operator that is killed before a notification is delivered delivers it after its restart, and one whose status was
not saved has decided nothing, so it announces nothing.

These are not the timeline's events: those wait for the decisions service, which may be off or down, and know nothing of
pauses and problems.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from promoter.api.spec import Spec
from promoter.api.status import (
    RESTING,
    AnalysisResult,
    KnownProblem,
    Notification,
    NotificationKind,
    NotificationsState,
    Phase,
    State,
)
from promoter.decision.approvals import missing_now
from promoter.decision.plan import plan

# A rollout has three or four of up to 3 KB; an object in etcd may take 1.5 MiB.
PENDING_KEPT = 30
# Receivers by the kinds that they want.
Subscribers = Mapping[NotificationKind, tuple[str, ...]]
# A pod that restarts or an API server that rolls is nothing to wake somebody for.
PROBLEM_GRACE_SECONDS = 30.0
_MESSAGE_LENGTH, _CHECK_LENGTH = 1000, 300


@dataclass(frozen=True)
class Subject:
    """What notifications are about: the promotion's identity, the model, and its spec if that is valid."""

    promotion: str
    model: str
    spec: Spec | None


@dataclass(frozen=True)
class _News:
    kind: NotificationKind
    message: str
    version: str | None = None
    reason: str = ""
    judgment: AnalysisResult | None = None


def note_notifications(before: State, after: State, subject: Subject, subscribers: Subscribers, now: float) -> State:
    """Return a state that is about to be stored, with a notification for everything that somebody wants to know.

    Args:
        before: The stored state.
        after: The state to store.
        subject: Whose notifications these are.
        subscribers: The receivers by kind; a kind without any is not noted.
        now: Seconds since 1970.
    """
    noted = after.notifications
    problem = _lasting(_problem(after), noted.problem, now)
    news = [*_of_rollout(before, after, subject.spec), *_of_problem(noted.problem, problem, after, now)]
    entries = tuple(
        Notification(
            id=f"{subject.promotion}/{round(now * 1000)}-{number}",
            at=now,
            model=subject.model,
            stable_version=after.stable_version,
            to=subscribers[item.kind],
            **vars(_shortened(item)),
        )
        for number, item in enumerate((item for item in news if subscribers.get(item.kind)), noted.number + 1)
    )
    if not entries and problem == noted.problem:
        return after
    kept = NotificationsState(
        pending=(*noted.pending, *entries)[-PENDING_KEPT:], number=noted.number + len(entries), problem=problem
    )
    return after.model_copy(update={"notifications": kept})


def waits_for_person(spec: Spec, state: State) -> bool:
    """Return whether a rollout goes on only once a person says so."""
    if state.phase != Phase.PAUSED:
        return False
    steps = plan(spec)
    if state.paused_for_data or state.step_index >= len(steps):
        return state.paused_for_data
    return steps[state.step_index].seconds is None or bool(missing_now(spec, state))


def _of_rollout(before: State, after: State, spec: Spec | None) -> Iterator[_News]:
    if before.phase in RESTING and after.phase in {Phase.STARTING, Phase.PROMOTING}:
        yield _News("RolloutStarted", after.message, after.canary_version)
    if after.history[:1] != before.history[:1] and after.history:
        yield _ending(before, after)
    if spec and _pause(before) != _pause(after) and waits_for_person(spec, after):
        reason, message = _wait(spec, after)
        yield _News("WaitingForPerson", message, after.canary_version, reason, after.analysis)


def _wait(spec: Spec, state: State) -> tuple[str, str]:
    """Return why a rollout waits for a person, as a reason and as a message."""
    if state.paused_for_data:
        return "InsufficientData", state.message
    if lacking := missing_now(spec, state):
        return "ApprovalsNeeded", f"step {state.step}: waiting for approvals: {lacking}"
    return "Paused", f"step {state.step}: paused until resumed"


def _pause(state: State) -> tuple[Phase, int, bool]:
    return state.phase, state.step_index, state.paused_for_data


def _ending(before: State, after: State) -> _News:
    ended = after.history[0]
    failed = after.failed(ended.version) if ended.outcome == "RolledBack" else None
    message = failed.message if failed else after.message
    if ended.outcome == "Promoted":
        champion = before.stable_version
        message = f"it replaces version {champion}" if champion else "it is the first version"
    judgment = after.analysis if ended.outcome != "Stopped" else None
    return _News(ended.outcome, message, ended.version, ended.reason, judgment)


def _problem(state: State) -> tuple[str, str] | None:
    """Return reason and message of the condition Degraded, unless the end of a rollout told the same."""
    condition = state.condition("Degraded")
    if condition is None or condition.status != "True":
        return None
    failed = state.failed(state.desired_version)
    if failed and failed.reason == condition.reason:
        return None
    return condition.reason, condition.message


def _lasting(found: tuple[str, str] | None, known: KnownProblem | None, now: float) -> KnownProblem | None:
    """Return the problem with the time since when it lasts, announced once it has lasted long enough."""
    if found is None:
        return None
    reason, _ = found
    if known is None or known.reason != reason:
        known = KnownProblem(reason=reason, since=now)
    return known.model_copy(update={"announced": known.announced or now - known.since >= PROBLEM_GRACE_SECONDS})


def _of_problem(known: KnownProblem | None, problem: KnownProblem | None, after: State, now: float) -> Iterator[_News]:
    was_told = known is not None and known.announced
    if known and was_told and problem is None:
        minutes = max(1, round((now - known.since) / 60))
        yield _News("Recovered", f"{known.reason} is over, after {minutes} min", reason=known.reason)
    same = known is not None and problem is not None and known.reason == problem.reason
    if problem and problem.announced and not (same and was_told):
        condition = after.condition("Degraded")
        yield _News("Degraded", condition.message if condition else "", reason=problem.reason)


def _shortened(news: _News) -> _News:
    judgment = news.judgment
    if judgment:
        results = (r.model_copy(update={"message": r.message[:_CHECK_LENGTH]}) for r in judgment.results)
        judgment = judgment.model_copy(update={"results": tuple(results)})
    return _News(news.kind, news.message[:_MESSAGE_LENGTH], news.version, news.reason, judgment)
