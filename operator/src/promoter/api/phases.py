"""Where a promotion is, and how an analysis came out."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a promotion is. Initializing, Idle and Failed are at rest; a rollout is in progress in the others."""

    INITIALIZING = "Initializing"
    IDLE = "Idle"
    STARTING = "Starting"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    FINISHING = "Finishing"
    STOPPING = "Stopping"
    ROLLING_BACK = "RollingBack"
    FAILED = "Failed"


RESTING = frozenset({Phase.INITIALIZING, Phase.IDLE, Phase.FAILED})
INTERRUPTIBLE = frozenset({Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING})


class Verdict(StrEnum):
    """The outcome of one analysis."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"
