"""The stable pods stay sized for all requests while a rollout may fall back on them: no autoscaler scales them in.

And since when there are fewer than wanted, or no registry to start them from.
"""

from __future__ import annotations

from promoter.api.status import RESTING
from promoter.decision.actions import DisableScaleIn, RestoreScaleIn
from promoter.decision.draft import Draft

# How long after a rollout autoscalers still do not scale in. They decide by measurements of the past, when the canary
# took a share of the load: a metrics server measures once a minute by default, over the minute before.
SETTLE_SECONDS = 120.0


def settle_autoscalers(draft: Draft) -> None:
    """Keep autoscalers from scaling in during a rollout, and restore them some time after it."""
    found = draft.observed.autoscalers
    if draft.state.phase not in RESTING:
        draft.actions += [DisableScaleIn(a.name, a.policy) for a in found if not a.scale_in_disabled]
    elif draft.waited >= SETTLE_SECONDS:
        draft.actions += [RestoreScaleIn(a.name, a.policy) for a in found if a.held]


def scale_in_problem(draft: Draft) -> str:
    """Return why the stable pods may be scaled in when the canary takes requests, "" if they may not."""
    loose = ", ".join(a.name for a in draft.observed.autoscalers if not a.scale_in_disabled)
    return draft.observed.autoscalers_error or (f"HorizontalPodAutoscaler {loose} may still scale in" if loose else "")


def note_outages(draft: Draft) -> None:
    """Note since when capacity is low and the registry does not answer; conditions report it after a while."""
    state, stable = draft.state, draft.observed.stable
    low = stable.exists and stable.available < stable.wanted
    draft.update(
        capacity_low_since=(state.capacity_low_since or draft.now) if low else None,
        registry_unreachable_since=(
            (state.registry_unreachable_since or draft.now) if draft.observed.registry.error else None
        ),
    )
