"""How many pods the canary has."""

from __future__ import annotations

from promoter.api.spec import Strategy
from promoter.decision.draft import Draft


def pods_in_steps(draft: Draft) -> int:
    """Return the number of pods before the promotion: in BlueGreen as many as there are stable ones."""
    return max(draft.spec.canary.replicas, _full_copy(draft))


def pods_without_room(draft: Draft) -> int:
    """Return the number of pods while the stable ones cannot be updated for want of room.

    A canary that answers everybody keeps all but one, for they are replaced one after the other; each new one answers
    its requests itself.
    """
    return max(draft.spec.canary.replicas, _full_copy(draft) - 1)


def _full_copy(draft: Draft) -> int:
    return draft.observed.stable.wanted if draft.spec.strategy == Strategy.BLUE_GREEN else 0
