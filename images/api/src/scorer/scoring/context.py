"""What all scoring shares: the model, and where its answers are counted and logged."""

from __future__ import annotations

from dataclasses import dataclass

from scorer.decision_log.log import DecisionLog
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot
from scorer.model.scorecard import Scorecard
from scorer.scoring.audit_log import AuditLog


@dataclass(frozen=True)
class ScoringContext:
    """Injected into everything that scores.

    Attributes:
        slot: Holds the model.
        scorecard: Turns probabilities into points.
        served_by: This pod's name.
        metrics: Counts scores and decisions.
        audit: Logs answers; None if nothing is to be logged.
        decisions: Keeps decisions; None if it is off.
    """

    slot: ModelSlot
    scorecard: Scorecard
    served_by: str
    metrics: Metrics
    audit: AuditLog | None = None
    decisions: DecisionLog | None = None
