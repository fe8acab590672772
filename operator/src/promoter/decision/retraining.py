"""When to train again: triggers, guard rails, and what became of the trainings that were started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from promoter.api.durations import seconds
from promoter.api.resource import Auc, Trigger
from promoter.api.spec import DriftTrigger, OutcomesTrigger, PerformanceTrigger, Retraining, Spec
from promoter.api.status import RESTING, RetrainingState, State, Training
from promoter.api.timestamps import to_whole_seconds_text
from promoter.decision.actions import StartTraining
from promoter.decision.draft import Draft
from promoter.decision.observation import TrainingView
from promoter.decision.reports import drifted_for, valid_report

TRAININGS_KEPT = 20
WEEK = 7 * 86400.0
# Between two trainings at least: by then, the pointer's move is known. And at most, after failures.
SHORTEST_PAUSE, LONGEST_PAUSE = 60.0, 28 * 86400.0
_REASON_LENGTH = 500
NOT_ALLOWED = (
    "the operator may not start trainings; set `retraining.enabled` in the values of its chart "
    "(`operator.retraining.enabled` in the stack's)"
)


@dataclass(frozen=True)
class Waiting:
    """Why no training starts: a reason of the condition Retraining, and a message."""

    reason: str
    message: str


@dataclass(frozen=True)
class Due:
    """A training that is to start now."""

    trigger: Trigger
    reason: str


def settle_retraining(draft: Draft) -> None:
    """Follow the training that runs, start one that is due, and say what is waited for."""
    wanted, known = draft.spec.retraining, draft.state.retraining
    if known is None:
        if wanted is None:
            return
        known = RetrainingState(since=draft.now)
    known = _followed(draft, known)
    if wanted is None:
        draft.update(retraining=known.model_copy(update={"reason": "", "message": ""}))
        return
    found = next_training(draft.spec, wanted, draft.state, known, draft.now)
    if draft.observed.training is None and known.running is None:
        found = Waiting("NotAllowed", NOT_ALLOWED)
    if isinstance(found, Due):
        if not draft.observed.stable.exists:
            found = Waiting("TargetNotFound", "a training is due, but there is no Deployment to serve its version")
        else:
            known, found = _started(draft, wanted, known, found)
    current = known.running
    if current and not current.seen and draft.observed.training is not None:
        draft.actions.append(StartTraining(current.job, wanted.cron_job, current.reason, seconds(wanted.max_duration)))
    draft.update(retraining=known.model_copy(update={"reason": found.reason, "message": found.message}))


def next_training(spec: Spec, wanted: Retraining, state: State, known: RetrainingState, now: float) -> Due | Waiting:
    """Return the training that is to start now, or why none is.

    Args:
        spec: The whole spec; valid.
        wanted: Its retraining.
        state: The state, with the newest drift report.
        known: The trainings so far.
        now: Seconds since 1970.
    """
    if current := known.running:
        return _running(current)
    due = _due(wanted, state, known, now)
    if isinstance(due, Waiting):
        return due
    held = next(_guards(spec, wanted, state, known, now), None)
    return Waiting(held.reason, f"due: {due.reason}; {held.message}") if held else due


def _due(wanted: Retraining, state: State, known: RetrainingState, now: float) -> Due | Waiting:
    """Return the first trigger that calls for a training, or what all of them wait for."""
    found = [*_triggers(wanted, state, known, now)]
    return next((item for item in found if isinstance(item, Due)), Waiting("NotDue", "; ".join(map(str, found))))


def _triggers(wanted: Retraining, state: State, known: RetrainingState, now: float) -> Iterator[Due | str]:
    """Yield for each trigger that it calls for a training, or what it waits for."""
    if wanted.drift:
        yield _drift(wanted.drift, state, now)
    if wanted.performance:
        yield from _performance(wanted.performance, state, now)
    if wanted.outcomes:
        yield _outcomes(wanted.outcomes, state, now)
    if wanted.interval:
        at = _last_model_at(state, known) + seconds(wanted.interval)
        if now >= at:
            yield Due("Interval", f"{wanted.interval} after the last training or promotion")
        else:
            yield f"the interval ends at {to_whole_seconds_text(at)}"


def _drift(wanted: DriftTrigger, state: State, now: float) -> Due | str:
    lasts, needed = drifted_for(state, now), seconds(wanted.duration)
    if lasts is None or state.drift is None:
        return "no drift"
    if lasts < needed:
        return f"drift for {_days(lasts)} of {_days(needed)}"
    return Due("Drift", f"drift for {_days(lasts)}: {state.drift.headline}"[:_REASON_LENGTH])


def _performance(wanted: PerformanceTrigger, state: State, now: float) -> Iterator[Due | str]:
    report = valid_report(state, now)
    if wanted.min_auc is not None:
        yield _auc("realized", report.realized_auc if report else None, wanted.min_auc)
    if wanted.min_expected_auc is not None:
        yield _auc("expected", report.expected_auc if report else None, wanted.min_expected_auc)


def _auc(kind: str, auc: Auc | None, limit: float) -> Due | str:
    if auc is None:
        return f"no {kind} AUC of the stable version yet"
    text = f"{kind} AUC {auc.value:.3f} ({auc.lower:.3f} to {auc.upper:.3f}) of {auc.loans} loans"
    if auc.upper < limit:
        return Due("Performance", f"{text} < {limit:g}")
    return f"{text} is not surely below {limit:g}"


def _outcomes(wanted: OutcomesTrigger, state: State, now: float) -> Due | str:
    report = valid_report(state, now)
    found = report.new_outcomes if report else None
    if found is None:
        return "the number of new outcomes is not known"
    if found < wanted.min_new:
        return f"{found} of {wanted.min_new} new outcomes"
    return Due(
        "Outcomes", f"{found} matured loans have an outcome that version {state.stable_version} did not learn from"
    )


def _guards(spec: Spec, wanted: Retraining, state: State, known: RetrainingState, now: float) -> Iterator[Waiting]:
    """Yield what keeps a training that is due from starting."""
    if spec.suspend:
        yield Waiting("Suspended", "suspended")
    if state.phase not in RESTING or not _settled(state):
        yield Waiting("RolloutInProgress", "waiting for the end of the rollout")
    not_before = _not_before(wanted, known)
    if now < not_before:
        yield _cooling_down(known, not_before)
    week = [training.started_at for training in known.trainings if now - training.started_at < WEEK]
    if len(week) >= wanted.max_per_week:
        until = to_whole_seconds_text(sorted(week, reverse=True)[wanted.max_per_week - 1] + WEEK)
        yield Waiting("WeeklyLimit", f"{len(week)} of {wanted.max_per_week} trainings in a week; waiting until {until}")


def _settled(state: State) -> bool:
    """Return whether the version that the pointer names was rolled out, or failed, or was compared."""
    desired = state.desired_version
    return desired in {None, state.stable_version, state.completed_version} or state.failed(desired) is not None


def _not_before(wanted: Retraining, known: RetrainingState) -> float:
    """Return when the pause after the last training ends; each failure in a row doubles it."""
    if not known.trainings:
        return 0.0
    last = known.trainings[0]
    pause = max(seconds(wanted.cooldown), SHORTEST_PAUSE)
    doubled = min(pause * 2.0 ** _failures(known), max(pause, LONGEST_PAUSE))
    return (last.ended_at or last.started_at) + doubled


def _failures(known: RetrainingState) -> int:
    """Return how many of the last trainings failed in a row."""
    outcomes = [training.outcome for training in known.trainings]
    return next((number for number, outcome in enumerate(outcomes) if outcome == "Succeeded"), len(outcomes))


def _cooling_down(known: RetrainingState, not_before: float) -> Waiting:
    last, until = known.trainings[0], to_whole_seconds_text(not_before)
    if last.outcome == "Succeeded":
        return Waiting("CoolingDown", f"cooling down until {until}")
    return Waiting("BackingOff", f"the last training failed ({last.message}); not again before {until}")


def _running(current: Training) -> Waiting:
    since = to_whole_seconds_text(current.started_at)
    return Waiting("Training", f"Job {current.job} has been training since {since}: {current.reason}")


def _last_model_at(state: State, known: RetrainingState) -> float:
    promoted = (entry.at for entry in state.history if entry.outcome == "Promoted")
    started = (training.started_at for training in known.trainings)
    return max(known.since, *promoted, *started)


def _started(draft: Draft, wanted: Retraining, known: RetrainingState, due: Due) -> tuple[RetrainingState, Waiting]:
    training = Training(
        job=f"{wanted.cron_job[:40]}-{draft.now:.0f}", trigger=due.trigger, reason=due.reason, started_at=draft.now
    )
    draft.add_event("TrainingStarted", f"Job {training.job} trains a new version: {due.reason}")
    trainings = (training, *known.trainings)[:TRAININGS_KEPT]
    return known.model_copy(update={"trainings": trainings}), _running(training)


def _followed(draft: Draft, known: RetrainingState) -> RetrainingState:
    """Return the state with what became of the training that ran."""
    current, view = known.running, draft.observed.training or TrainingView()
    if current is None:
        return known
    if current.start_error:
        current = _ended(draft, current, "Failed", current.start_error)
    elif view.outcome:
        current = _ended(draft, current, view.outcome, view.message)
    elif view.found:
        current = current.model_copy(update={"seen": True})
    elif view.found is False and (current.seen or draft.spec.retraining is None):
        current = _ended(draft, current, "Failed", "the Job was deleted")
    trainings = tuple(current if training.job == current.job else training for training in known.trainings)
    return known.model_copy(update={"trainings": trainings})


def _ended(
    draft: Draft, training: Training, outcome: Literal["Succeeded", "Refused", "Failed"], message: str
) -> Training:
    kind: Literal["Normal", "Warning"] = "Normal" if outcome == "Succeeded" else "Warning"
    draft.add_event(f"Training{outcome}", f"Job {training.job}: {message}", kind)
    return training.model_copy(update={"outcome": outcome, "ended_at": draft.now, "message": message[:_REASON_LENGTH]})


def _days(duration: float) -> str:
    return f"{duration / 86400:.3g} days"
