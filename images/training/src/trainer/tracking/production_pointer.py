"""Move the Production pointer, based on the Production version at the moment of the move."""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from trainer.errors import GateRefusedError, TrackingError
from trainer.evaluation.gates import Gate

logger = logging.getLogger(__name__)

_ATTEMPTS = 5


class PointerMode(StrEnum):
    """Who moves the Production pointer to a version that passed its gates.

    Attributes:
        AUTO: The training run itself.
        MANUAL: A person; the version gets the alias `candidate`.
        NEVER: Nobody; the version is only registered.
    """

    AUTO = "auto"
    MANUAL = "manual"
    NEVER = "never"


class ProductionPointer(Protocol):
    """The part of the registry that `move_pointer_if_still_better` needs."""

    def production_version(self) -> str | None:
        """Return the current Production version."""

    def move_production_pointer(self, version: str, *, replacing: str | None) -> None:
        """Make `version` the Production version."""


def move_pointer_if_still_better(
    registry: ProductionPointer,
    version: str,
    *,
    compared_with: str | None,
    compare: Callable[[str], tuple[Gate, ...]],
) -> str | None:
    """Move the Production pointer to `version`, unless it has moved to a better version in the meantime.

    Two training runs may finish at the same time, both compared with the same Production version. The second one
    finds that the pointer moved, is compared with the new Production version, and moves the pointer only if it passes
    that comparison too.

    Args:
        registry: The registry that has the pointer.
        version: The version to move the pointer to; its gates passed against `compared_with`.
        compared_with: The Production version of that comparison, or None.
        compare: Compares `version` with another Production version and returns the gates that depend on it.

    Returns:
        The version that was replaced, or None if there was none.

    Raises:
        GateRefusedError: The version that the pointer moved to in the meantime is better.
        TrackingError: The pointer keeps moving.
    """
    for _ in range(_ATTEMPTS):
        current = registry.production_version()
        if current in {compared_with, version}:
            registry.move_production_pointer(version, replacing=compared_with)
            return compared_with
        logger.info("Production moved from version %s to %s during training: comparing again", compared_with, current)
        if current is not None and (failed := [gate for gate in compare(current) if not gate.passed]):
            raise GateRefusedError("; ".join(str(gate) for gate in failed))
        compared_with = current
    raise TrackingError(f"the Production pointer moved {_ATTEMPTS} times before it could be moved to version {version}")
