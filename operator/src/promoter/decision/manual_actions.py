"""Manual actions, requested with the annotation `creditrisk.io/action`; each is handled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from promoter.api.spec import Strategy
from promoter.api.status import INTERRUPTIBLE, Phase
from promoter.decision.actions import ClearAction
from promoter.decision.draft import Draft
from promoter.decision.experiment import completed

_IN_STEPS = frozenset({Phase.PROGRESSING, Phase.PAUSED})


@dataclass(frozen=True)
class ManualAction:
    """When an action applies, that condition in words, and what the action does."""

    applies: Callable[[Draft], bool]
    condition: str
    perform: Callable[[Draft], None]


def manual_actions(
    *, next_step: Callable[[Draft], None], promote: Callable[[Draft], None]
) -> Mapping[str, ManualAction]:
    """Return the actions by their names, given the two transitions that they share with the steps."""

    def resume(draft: Draft) -> None:
        draft.add_event("Resumed", f"step {draft.state.step} was resumed manually")
        next_step(draft)

    def skip_step(draft: Draft) -> None:
        draft.add_event("StepSkipped", f"step {draft.state.step} was skipped manually")
        next_step(draft)

    def promote_manually(draft: Draft) -> None:
        draft.add_event("PromotedManually", f"version {draft.state.canary_version} is promoted manually")
        promote(draft)

    return {
        "resume": ManualAction(
            lambda draft: draft.state.phase == Phase.PAUSED, "only a paused rollout can be resumed", resume
        ),
        "abort": ManualAction(
            _can_abort,
            "only a rollout in progress can be aborted, until every stable pod serves its version",
            lambda draft: draft.roll_back("Aborted", "aborted manually"),
        ),
        "skip-step": ManualAction(
            _can_skip_step,
            "only a step whose weight every stable pod applies, and whose canary is ready, can be skipped",
            skip_step,
        ),
        "promote": ManualAction(
            _can_promote,
            "only a version whose canary is ready can be promoted, and none by an Experiment",
            promote_manually,
        ),
        "retry": ManualAction(
            _can_retry,
            "only a version that failed or whose experiment is complete, and that the pointer names, can be retried",
            _retry,
        ),
    }


def handle_manual_action(
    draft: Draft, actions: Mapping[str, ManualAction], bypassed: Callable[[Draft, str], str]
) -> None:
    """Perform the requested action, unless that was done before.

    Args:
        draft: The decision in progress.
        actions: The actions by their names.
        bypassed: Returns which approvals an action would leave out, "" if none.
    """
    name = draft.observed.action
    if not name:
        draft.update(handled_action="")
        return
    draft.actions.append(ClearAction(name))
    if name == draft.state.handled_action:
        return
    draft.update(handled_action=name)
    action = actions.get(name)
    if action is None:
        message = f"unknown action {name!r}; allowed are {', '.join(actions)}"
        draft.add_event("ActionIgnored", message, "Warning")
    elif why := bypassed(draft, name):
        message = f"action {name} cannot take the place of approvals (kubectl promotion approve): {why}"
        draft.add_event("ActionIgnored", message, "Warning")
    elif action.applies(draft):
        draft.performed = name
        action.perform(draft)
    else:
        message = f"action {name} does not apply in phase {draft.state.phase}: {action.condition}"
        draft.add_event("ActionIgnored", message, "Warning")


def _can_abort(draft: Draft) -> bool:
    return draft.state.phase in INTERRUPTIBLE and draft.state.stable_version is not None


def _can_skip_step(draft: Draft) -> bool:
    # Before its weight is in force everywhere, a larger one would send applicants back to the champion.
    begun = draft.state.step_started_at is not None or not draft.state.weight
    return draft.state.phase in _IN_STEPS and begun and draft.canary_ready


def _can_promote(draft: Draft) -> bool:
    in_time = draft.state.phase in _IN_STEPS | {Phase.STARTING}
    return in_time and draft.canary_ready and draft.spec.strategy != Strategy.EXPERIMENT


def _can_retry(draft: Draft) -> bool:
    state = draft.state
    failed = state.phase == Phase.FAILED and state.failed(state.desired_version) is not None
    return failed or (state.phase == Phase.IDLE and completed(draft.spec, state))


def _retry(draft: Draft) -> None:
    desired = draft.state.desired_version
    kept = tuple(entry for entry in draft.state.failed_versions if entry.version != desired)
    draft.add_event("Retried", f"version {desired} may be tried again")
    draft.enter_phase(Phase.IDLE, f"retrying version {desired}", failed_versions=kept,
                      completed_version=None)  # fmt: skip
