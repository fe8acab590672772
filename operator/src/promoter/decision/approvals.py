"""Approvals: who may give one, which ones count, and what is still missing.

Who somebody is, only the API server knows: the webhook asks `refusal` with what the API server says of the person, and
refuses what it refuses. What was admitted is checked once more here, because the rollout may have moved on meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from promoter.api.approvals import ApprovalSpec
from promoter.api.resource import Approvals
from promoter.api.spec import Spec
from promoter.api.status import Approval, ApprovalsState, Phase, State
from promoter.api.timestamps import to_text
from promoter.decision.draft import Draft
from promoter.decision.plan import plan

_IN_STEPS = frozenset({Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED})


@dataclass(frozen=True)
class Person:
    """Whoever created a PromotionApproval, as the API server knows them."""

    user: str
    groups: tuple[str, ...]


def asked_now(spec: Spec, state: State) -> Approvals | None:
    """Return what the present pause asks for, None if it is none that asks for approvals."""
    steps = plan(spec)
    if state.phase != Phase.PAUSED or state.paused_for_data or state.step_index >= len(steps):
        return None
    return steps[state.step_index].approvals


def missing_now(spec: Spec, state: State) -> str:
    """Return what the present pause still lacks, "" if nothing or if it asks for no approvals."""
    asked = asked_now(spec, state)
    return missing(asked, state.approvals, state.step_index) if asked else ""


def missing(asked: Approvals, state: ApprovalsState | None, step: int) -> str:
    """Return what a pause still lacks, in words; "" if it has all its approvals.

    Args:
        asked: What the pause asks for.
        state: The approvals of the rollout.
        step: The index of the pause.
    """
    users = approved_by(asked, state, step)
    groups = ", ".join(asked.groups)
    if len(users) < asked.needed:
        so_far = f" ({', '.join(users)})" if users else ""
        return f"{len(users)} of {asked.needed} approvals by members of {groups}{so_far}"
    trained_by = state.trained_by if state else None
    if trained_by is None:
        return "who trained the version is not known yet, and may not be the only one to approve it"
    if all(_is_one_of(user, trained_by) for user in users):
        return (f"{', '.join(users)} trained the version and may not be the only one to approve it; another member of "
                f"{groups} has to")  # fmt: skip
    return ""


def approved_by(asked: Approvals, state: ApprovalsState | None, step: int) -> tuple[str, ...]:
    """Return the different people whose approvals count for a pause."""
    given = state.given if state else ()
    counted = (entry.user for entry in given if entry.step == step and set(entry.groups) & set(asked.groups))
    return tuple(dict.fromkeys(counted))


def refusal(spec: Spec, state: State, wanted: ApprovalSpec, person: Person) -> str:
    """Return why a person cannot give an approval now, "" if they can."""
    asked = asked_now(spec, state)
    if asked is None or state.phase_started_at is None:
        return f"nothing waits for approvals: the ModelPromotion is in phase {state.phase} ({state.message})"
    if wanted.version != state.canary_version:
        return f"version {wanted.version} is not being rolled out; version {state.canary_version} waits for approvals"
    if to_text(wanted.paused_at) != to_text(state.phase_started_at):
        return (f"the approval is for the pause of {to_text(wanted.paused_at)}; the present one began at "
                f"{to_text(state.phase_started_at)}")  # fmt: skip
    if not groups_of(asked, person):
        return f"{person.user} is in none of the groups that may approve: {', '.join(asked.groups)}"
    if person.user in approved_by(asked, state.approvals, state.step_index):
        return f"{person.user} has approved version {wanted.version} at this pause already"
    return ""


def groups_of(asked: Approvals, person: Person) -> tuple[str, ...]:
    """Return the groups by which a person may approve."""
    return tuple(group for group in asked.groups if group in person.groups)


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
        draft.add_event("Approved", f"step {draft.state.step}: {describe_approval(approval, wanted.version)}, {number} "
                                    f"of {asked.needed}")  # fmt: skip


def describe_approval(approval: Approval, version: str | None) -> str:
    """Return who approved which version, and the comment."""
    said = f' ("{approval.comment}")' if approval.comment else ""
    return f"{approval.user} approved version {version}{said}"


def wait_for_approvals(draft: Draft, lacking: str) -> None:
    """State what the pause waits for."""
    error = draft.observed.approvals.error
    draft.set_message(f"step {draft.state.step}: waiting for approvals: {lacking}{f' ({error})' if error else ''}")


def without_approvals(spec: Spec, state: State) -> State:
    """Return the state of a promotion whose operator cannot check who approves.

    Nobody checks what is created meanwhile, so what waits for approvals begins to wait anew once somebody does.
    """
    return state.model_copy(update={"phase_started_at": None}) if asked_now(spec, state) else state


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


def _is_one_of(user: str, others: tuple[str, ...]) -> bool:
    return _short(user) in map(_short, others)


def _short(name: str) -> str:
    """Return a name without what login systems put around it: `oidc:Jane@bank.example` and `jane` are one person.

    That two people are taken for one costs one approval more; the reverse would be approving alone.
    """
    return re.split("[:#]", name)[-1].partition("@")[0].casefold()
