"""How many pods the canary has."""

from __future__ import annotations

from promoter.api.spec import Spec, Strategy
from promoter.decision.observation import StableView


def pods_in_steps(spec: Spec, stable: StableView) -> int:
    """Return the number of pods before the promotion: in BlueGreen as many as there are stable ones."""
    return max(spec.canary.replicas, _full_copy(spec, stable))


def pods_without_room(spec: Spec, stable: StableView) -> int:
    """Return the number of pods while the stable ones cannot be updated for want of room.

    A canary that answers everybody keeps all but one, for they are replaced one after the other; each new one answers
    its requests itself.
    """
    return max(spec.canary.replicas, _full_copy(spec, stable) - 1)


def _full_copy(spec: Spec, stable: StableView) -> int:
    return stable.wanted if spec.strategy == Strategy.BLUE_GREEN else 0
