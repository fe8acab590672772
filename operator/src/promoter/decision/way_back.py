"""The fast way back after a blue-green promotion: a full copy of the version before stays ready for a while.

It is the canary's Deployment, without a weight. A return to that version then needs no new pods: its rollout skips the
steps, as for every version that was stable recently, and finds a canary that can answer everybody.
"""

from __future__ import annotations

from promoter.api.durations import seconds
from promoter.api.spec import Strategy
from promoter.decision.actions import DeleteCanary
from promoter.decision.copies import copy_of
from promoter.decision.draft import Draft
from promoter.decision.everyone import ensure_canary
from promoter.decision.replicas import pods_in_steps


def remember_former(draft: Draft) -> None:
    """Keep the version that was replaced just now, if the spec asks for it."""
    blue_green, former = draft.spec.blue_green, next(iter(draft.state.stable_history), None)
    length = seconds(blue_green.keep_for) if blue_green else 0.0
    if length and former:
        draft.update(kept_version=former, kept_until=draft.now + length)


def tidy_canary(draft: Draft) -> bool:
    """Let the canary's Deployment serve the version that is kept, else delete it; return whether it is as wanted."""
    state, canary = draft.state, draft.observed.canary
    if _keeps(draft) and state.kept_version:
        ensure_canary(draft, pods_in_steps(draft), state.kept_version)
        return True
    if state.kept_version:
        draft.update(kept_version=None, kept_until=None)
    if canary.version is not None:
        draft.actions.append(DeleteCanary())
    return canary.version is None


def _keeps(draft: Draft) -> bool:
    """Return whether a version is kept: its time is not over, and its pods run or can start without the registry."""
    state = draft.state
    in_time = state.kept_until is not None and draft.now < state.kept_until
    running = draft.observed.canary.version == state.kept_version
    startable = running or copy_of(state, draft.observed, state.kept_version) is not None
    return in_time and startable and draft.spec.strategy == Strategy.BLUE_GREEN
