"""Pauses that wait for approvals, during a rollout: counting them, going on with them, and never without them."""

from __future__ import annotations

from collections.abc import Callable

from promoter.api.status import Approval, Phase
from promoter.decision.approvals import (
    Person,
    approved_by,
    asked_now,
    groups_of,
    missing,
    missing_now,
    refusal,
)
from promoter.decision.draft import Draft
from promoter.decision.plan import plan

_IN_STEPS = frozenset({Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED})


def take_approvals(draft: Draft) -> None:
    """Count what was approved since the last turn, and note who trained the version."""
    asked, known, view = asked_now(draft.spec, draft.state), draft.state.approvals, draft.observed.approvals
    if asked is None or known is None:
        return
    trained_by = known.trained_by if view.trained_by is None else view.trained_by
    known = known.model_copy(update={"trained_by": trained_by})
    # Approvals name a pause by its beginning, which is unknown after a time in which nobody checked them.
    draft.update(approvals=known, phase_started_at=draft.state.phase_started_at or draft.now)
    for created_at, wanted in sorted(view.found, key=lambda entry: entry[0]):
        person = Person(wanted.user, wanted.groups)
        if not wanted.user or refusal(draft.spec, draft.state, wanted, person):
            continue
        approval = Approval(user=person.user, groups=groups_of(asked, person), comment=wanted.comment, at=created_at,
                            step=draft.state.step_index)  # fmt: skip
        known = known.model_copy(update={"given": (*known.given, approval)})
        draft.update(approvals=known)
        number = len(approved_by(asked, known, approval.step))
        draft.add_event("Approved", f"step {draft.state.step}: {approval.describe(wanted.version)}, {number} "
                                    f"of {asked.needed}")  # fmt: skip


def wait_for_approvals(draft: Draft, lacking: str) -> None:
    """State what the pause waits for."""
    error = draft.observed.approvals.error
    draft.set_message(f"step {draft.state.step}: waiting for approvals: {lacking}{f' ({error})' if error else ''}")


def bypassed(draft: Draft, action: str) -> str:
    """Return which approvals a manual action would leave out, "" if none."""
    spec, state = draft.spec, draft.state
    if action in {"resume", "skip-step"}:
        lacking = missing_now(spec, state)
        return f"step {state.step} waits for approvals: {lacking}" if lacking else ""
    if action != "promote" or state.phase not in _IN_STEPS:
        return ""
    ahead = [(index, step.approvals) for index, step in enumerate(plan(spec)) if index >= state.step_index]
    steps = [str(index + 1) for index, asked in ahead if asked and missing(asked, state.approvals, index)]
    return f"approvals are asked for at step {', '.join(steps)}" if steps else ""


def leave_approved_pause(draft: Draft, next_step: Callable[[Draft], None]) -> None:
    """Go on after a pause without a duration, which has its approvals."""
    if draft.spec.suspend:
        draft.set_message(f"step {draft.state.step} is approved; suspended")
    else:
        next_step(draft)


def stopped_for_others(draft: Draft) -> bool:
    """Stop a rollout for which the spec asks for other approvals now; return whether it does."""
    if not _asked_otherwise(draft):
        return False
    version = draft.state.canary_version
    draft.stop("ApprovalsChanged", f"the spec asks for other approvals than when the rollout of version {version} "
                                   "began; it starts over")  # fmt: skip
    return True


def _asked_otherwise(draft: Draft) -> bool:
    """Return whether the spec asks for other approvals than when the rollout began, or for some in the past."""
    spec, state = draft.spec, draft.state
    if state.phase not in _IN_STEPS:
        return False
    known = state.approvals.asked if state.approvals else ()
    passed = enumerate(plan(spec)[: state.step_index])
    return known != spec.approvals or any(
        step.approvals and missing(step.approvals, state.approvals, index) for index, step in passed
    )
