"""Whether a version becomes Production, decided on what is Production at that very moment."""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from trainer.errors import GateRefusedError, TrackingError
from trainer.evaluation.gates import Gate

logger = logging.getLogger(__name__)

_ATTEMPTS = 5


class PromotionMode(StrEnum):
    """Who moves the Production pointer."""

    AUTO = "auto"
    MANUAL = "manual"
    NEVER = "never"


class Pointer(Protocol):
    """The part of the registry that promotion needs."""

    def production_version(self) -> str | None:
        """The present Production version."""

    def promote(self, version: str, *, replacing: str | None) -> None:
        """Move the pointer."""


def promote_if_still_better(
    registry: Pointer,
    version: str,
    *,
    compared_with: str | None,
    compare: Callable[[str], tuple[Gate, ...]],
) -> str | None:
    """Promote `version`, unless what is Production by now is better.

    Two trainings may end at once: each was compared with the same old version. The one that comes second sees that
    the pointer moved, is compared again with the new version, and promotes only if it stands that comparison too.

    Args:
        registry: Where the pointer is.
        version: The version to promote; its gates passed against `compared_with`.
        compared_with: The Production version of that comparison, or None.
        compare: Compares `version` with another Production version, and gives the gates that depend on it.

    Returns:
        The version that was replaced, or None if there was none.

    Raises:
        GateRefusedError: A version promoted in the meantime is better.
        TrackingError: The pointer keeps moving.
    """
    for _ in range(_ATTEMPTS):
        present = registry.production_version()
        if present in {compared_with, version}:
            registry.promote(version, replacing=compared_with)
            return compared_with
        logger.info("Production moved from %s to %s while training: comparing again", compared_with, present)
        if present is not None and (failed := [gate for gate in compare(present) if not gate.passed]):
            raise GateRefusedError("; ".join(str(gate) for gate in failed))
        compared_with = present
    raise TrackingError(f"the Production pointer moved {_ATTEMPTS} times while version {version} waited for it")
