"""What people say by annotation; each word is handled once. Pure."""

from __future__ import annotations

from collections.abc import Callable

from promoter.decision.draft import Draft
from promoter.decision.observation import ClearAction
from promoter.decision.state import INTERRUPTIBLE, Phase
from promoter.decision.steps import next_step, promote_now


def by_hand(draft: Draft) -> None:
    """Do what the annotation asks for, unless that was done already."""
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
    next_step(draft)
    return True


def _abort(draft: Draft) -> bool:
    if draft.state.phase not in INTERRUPTIBLE or draft.state.stable_version is None:
        return False
    draft.roll_back("Aborted", "aborted by hand")
    return True


def _promote(draft: Draft) -> bool:
    if draft.state.phase not in {Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED} or not draft.canary_ready:
        return False
    draft.tell("PromotedByHand", f"version {draft.state.canary_version} is promoted by hand")
    promote_now(draft)
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
