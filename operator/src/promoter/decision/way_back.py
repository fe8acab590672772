"""The fast way back after a blue-green promotion: a full copy of the version before stays ready for a while.

It is the canary's Deployment, without a weight. A return to that version then needs no new pods: its rollout skips the
steps, as for every version that was stable recently, and finds a canary that can answer everybody.
"""

from __future__ import annotations

from promoter.api.durations import seconds
from promoter.api.spec import Strategy
from promoter.decision.copies import copy_of
from promoter.decision.draft import Draft


def remember_former(draft: Draft) -> None:
    """Keep the version that was replaced just now, if the spec asks for it."""
    blue_green, former = draft.spec.blue_green, next(iter(draft.state.stable_history), None)
    length = seconds(blue_green.keep_for) if blue_green else 0.0
    if length and former:
        draft.update(kept_version=former, kept_until=draft.now + length)


def kept_version(draft: Draft) -> str | None:
    """Return the version of which a copy stays ready, None if there is none or its time is over.

    It must also run already, or be able to start without the registry.
    """
    state, canary = draft.state, draft.observed.canary
    in_time = state.kept_until is not None and draft.now < state.kept_until
    startable = canary.version == state.kept_version or copy_of(state, draft.observed, state.kept_version) is not None
    if in_time and startable and draft.spec.strategy == Strategy.BLUE_GREEN:
        return state.kept_version
    draft.update(kept_version=None, kept_until=None)
    return None
