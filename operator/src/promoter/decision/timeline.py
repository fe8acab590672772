"""What a turn adds to the model's timeline: which versions answer from now on, and who or what changed that.

The events are noted in the same status that holds the decision, and delivered later: an operator that is killed in
between delivers them after its restart, and one whose status was not saved has decided nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from promoter.api.status import (
    RESTING,
    AnalysisResult,
    Approval,
    HistoryEntry,
    InForce,
    Phase,
    State,
    TimelineEntry,
    TimelineKind,
    TimelineState,
    Verdict,
)

# A rollout has ten to thirty events of up to 2 KB; an object in etcd may take 1.5 MiB.
PENDING_KEPT = 100
_MESSAGE_LENGTH = 1000
_OPERATOR = "operator"


@dataclass(frozen=True)
class Turn:
    """What was decided: the new state, the newest analysis, and the manual action that was performed."""

    state: State
    judgment: AnalysisResult | None = None
    performed: str = ""


@dataclass(frozen=True)
class Origin:
    """What events are about and where they come from: the promotion's identity, the model, and who did what.

    `pointer_moved_by` and `acted_by` are None if that is not known.
    """

    promotion: str
    model: str
    pointer_moved_by: str | None = None
    acted_by: str | None = None


@dataclass(frozen=True)
class _Change:
    kind: TimelineKind
    message: str
    version: str | None = None
    moved_by: str | None = _OPERATOR
    judgment: AnalysisResult | None = None


def pointer_moved(before: State, after: State) -> bool:
    """Return whether the pointer names another version; at first sight, whether that is not the stable one."""
    desired = after.desired_version
    return desired != before.desired_version and (before.desired_version is not None or desired != after.stable_version)


def note_changes(before: State, turn: Turn, origin: Origin, now: float) -> State:
    """Return the decided state with an event for everything that the timeline should say about the turn.

    Args:
        before: The state before the turn.
        turn: What was decided.
        origin: Whose events these are.
        now: Seconds since 1970.
    """
    state, noted = turn.state, before.timeline
    in_force = in_force_by(state)
    changes = [
        *_with_unexplained(noted.recorded or InForce(), in_force, state, changes=[*_changes(before, turn, origin)])
    ]
    if not changes:
        return state.model_copy(update={"timeline": noted})
    # Identifies the events, so no two turns may have the same; and clocks are set back.
    at = round(max(now, (noted.recorded_at or 0.0) + 0.001), 3)
    entries = tuple(
        TimelineEntry(
            id=f"{origin.promotion}/{round(at * 1000)}-{number:02}",
            model=origin.model,
            at=at,
            **vars(_shortened(change)),
            **in_force.model_dump(),
        )
        for number, change in enumerate(changes)
    )
    pending, dropped = _bounded((*noted.pending, *entries))
    timeline = TimelineState(recorded=in_force, recorded_at=at, pending=pending, dropped=noted.dropped + dropped)
    return state.model_copy(update={"timeline": timeline})


def in_force_by(state: State) -> InForce:
    """Return which versions answer, as far as every stable pod has reported it."""
    shadow = state.route.mode == "shadow" and state.route.weight > 0
    canary = state.canary_version if state.verified_weight or shadow else None
    if canary is None or canary == state.stable_version or state.phase in RESTING:
        return InForce(stable_version=state.stable_version)
    return InForce(
        stable_version=state.stable_version,
        canary_version=canary,
        weight=state.verified_weight,
        mode="shadow" if shadow else "live",
    )


def _changes(before: State, turn: Turn, origin: Origin) -> Iterator[_Change]:
    after = turn.state
    if pointer_moved(before, after):
        named = f"names version {after.desired_version}" if after.desired_version else "names no version"
        yield _Change("PointerMoved", f"the pointer in the registry {named}", after.desired_version,
                      origin.pointer_moved_by)  # fmt: skip
    if turn.performed:
        version = after.canary_version or before.canary_version or after.desired_version
        yield _Change("ActedManually", f"action {turn.performed} was performed", version, origin.acted_by)
    for approval in _new_approvals(before, after):
        version = after.canary_version
        yield _Change("ActedManually", approval.describe(version), version, approval.user)
    if before.phase in RESTING and after.phase in {Phase.STARTING, Phase.PROMOTING}:
        yield _Change("RolloutStarted", after.message, after.canary_version)
    yield from _trainings(before, after)
    ended = after.history[0] if after.history[:1] != before.history[:1] and after.history else None
    if ended:
        yield _ending(ended, turn)
    elif judgment := _worth_noting(before, turn):
        yield _Change("Judged", _consequence(before, after), after.canary_version, judgment=judgment)
    in_force = in_force_by(after)
    recorded = before.timeline.recorded or in_force
    if _share(recorded) != _share(in_force) and not ended:
        yield _Change("WeightChanged", _describe(in_force), after.canary_version)


def _new_approvals(before: State, after: State) -> Iterator[Approval]:
    known = before.approvals.given if before.approvals else ()
    yield from (approval for approval in (after.approvals.given if after.approvals else ()) if approval not in known)


def _trainings(before: State, after: State) -> Iterator[_Change]:
    """Yield what began and ended of the trainings; the oldest first."""
    known = {training.job: training for training in before.retraining.trainings} if before.retraining else {}
    for training in reversed(after.retraining.trainings if after.retraining else ()):
        earlier = known.get(training.job)
        if earlier is None:
            yield _Change("TrainingStarted", f"Job {training.job}: {training.reason}")
        if training.outcome and (earlier is None or earlier.outcome is None):
            yield _Change("TrainingEnded", f"Job {training.job}: {training.outcome}: {training.message}")


def _ending(ended: HistoryEntry, turn: Turn) -> _Change:
    after = turn.state
    judgment = after.analysis if ended.outcome != "Stopped" else None
    failed = after.failed(ended.version) if ended.outcome == "RolledBack" else None
    what = failed.message if failed else after.message
    message = what if ended.reason == ended.outcome else f"{ended.reason}: {what}"
    return _Change(ended.outcome, message, ended.version, judgment=judgment)


def _worth_noting(before: State, turn: Turn) -> AnalysisResult | None:
    """Return the analysis that failed, differs from the one before, or ended its step; not each of hundreds."""
    judgment, after = turn.judgment, turn.state
    if judgment is None or before.phase not in {Phase.PROGRESSING, Phase.PAUSED}:
        return None
    known = before.analysis
    new = judgment != known and (
        known is None or known.verdict != judgment.verdict or judgment.verdict == Verdict.FAILED
    )
    return judgment if new or (before.phase, before.step) != (after.phase, after.step) else None


def _consequence(before: State, after: State) -> str:
    """Return what a judgment led to; the state's message is already about what comes next."""
    if (before.phase, before.step) == (after.phase, after.step):
        return after.message
    what = {
        Phase.PROGRESSING: f"step {after.step} begins",
        Phase.PAUSED: "the rollout is paused",
        Phase.PROMOTING: f"the stable pods are updated to version {after.canary_version}",
    }
    return f"step {before.step} is over: {what.get(after.phase, after.message)}"


def _with_unexplained(
    recorded: InForce, in_force: InForce, state: State, *, changes: list[_Change]
) -> Iterator[_Change]:
    """Yield the changes, and an event for what is in force without one of them.

    That is so at the beginning, and after a time without a timeline.
    """
    stable = in_force.stable_version
    if stable and stable != recorded.stable_version and not any(change.kind == "Promoted" for change in changes):
        message = f"version {stable} was stable already when the timeline began or went on"
        yield _Change("Promoted", message, stable, moved_by=None)
    elif in_force != recorded and not changes:
        yield _Change("WeightChanged", _describe(in_force), state.canary_version)
    yield from changes


def _share(in_force: InForce) -> tuple[str | None, int, str]:
    return in_force.canary_version, in_force.weight, in_force.mode


def _describe(in_force: InForce) -> str:
    if in_force.canary_version is None:
        return f"version {in_force.stable_version} answers all applicants"
    if in_force.mode == "shadow":
        return f"version {in_force.canary_version} scores copies of requests as a shadow"
    return f"version {in_force.canary_version} answers {in_force.weight} % of the applicants"


def _shortened(change: _Change) -> _Change:
    """Return a change with messages that the service takes, and of which a hundred fit into a status."""
    judgment = change.judgment
    if judgment:
        results = (r.model_copy(update={"message": r.message[:_MESSAGE_LENGTH]}) for r in judgment.results)
        judgment = judgment.model_copy(update={"results": tuple(results)})
    return replace(change, message=change.message[:_MESSAGE_LENGTH], judgment=judgment)


def _bounded(entries: tuple[TimelineEntry, ...]) -> tuple[tuple[TimelineEntry, ...], int]:
    """Return at most `PENDING_KEPT` entries and how many were dropped: judgments first, then the oldest."""
    excess = len(entries) - PENDING_KEPT
    if excess <= 0:
        return entries, 0
    oldest_first = [*(e for e in entries if e.kind == "Judged"), *(e for e in entries if e.kind != "Judged")]
    dropped = {entry.id for entry in oldest_first[:excess]}
    return tuple(entry for entry in entries if entry.id not in dropped), excess
