"""Approvals: who may give one, which ones count, and what is still missing.

Who somebody is, only the API server knows: the webhook asks `refusal` with what the API server says of the person, and
refuses what it refuses. What was admitted is checked once more here, because the rollout may have moved on meanwhile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from promoter.api.approvals import ApprovalSpec
from promoter.api.resource import Approvals
from promoter.api.spec import Spec
from promoter.api.status import ApprovalsState, Phase, State
from promoter.api.timestamps import to_text
from promoter.decision.plan import plan


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


def without_approvals(spec: Spec, state: State) -> State:
    """Return the state of a promotion whose operator cannot check who approves.

    Nobody checks what is created meanwhile, so what waits for approvals begins to wait anew once somebody does.
    """
    return state.model_copy(update={"phase_started_at": None}) if asked_now(spec, state) else state


def _is_one_of(user: str, others: tuple[str, ...]) -> bool:
    return _short(user) in map(_short, others)


def _short(name: str) -> str:
    """Return a name without what login systems put around it: `oidc:Jane@bank.example` and `jane` are one person.

    That two people are taken for one costs one approval more; the reverse would be approving alone.
    """
    return re.split("[:#]", name)[-1].partition("@")[0].casefold()
