"""The scoring itself: one request's body in, one answer out. No HTTP here."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from scorer.metrics import Metrics
from scorer.model.bundle import Model
from scorer.model.loader import ModelSlot
from scorer.model.reasons import Audit, Reason
from scorer.model.scorecard import Scorecard
from scorer.problems import Problem
from scorer.scoring.audit_log import AuditLog

MOST_REASONS = 11


class ModelReference(msgspec.Struct, frozen=True, gc=False):
    """Which model answered."""

    name: str
    version: str


class Score(msgspec.Struct, frozen=True, gc=False):
    """The answer to one application; reasons and audit only where they were asked for."""

    request_id: str
    probability_of_default: float
    score_points: int
    decision: str
    model: ModelReference
    served_by: str
    reasons: tuple[Reason, ...] | UnsetType = UNSET
    audit: Audit | UnsetType = UNSET


@dataclass(frozen=True)
class Scorer:
    """Scores applications with the slot's model.

    Attributes:
        slot: Holds the model.
        scorecard: Turns probabilities into points.
        served_by: This pod's name.
        metrics: Where scores and decisions are counted.
        audit: Where each answer is written down, if anywhere.
    """

    slot: ModelSlot
    scorecard: Scorecard
    served_by: str
    metrics: Metrics
    audit: AuditLog | None = None

    async def score(self, body: bytes, request_id: str, reasons: int = 0) -> Score:
        """Score one application and give at most so many reasons.

        Raises:
            Problem: when there is no model yet, or the application is not one that it can score.
        """
        model = model_of(self.slot)
        numeric, codes = model.decoder.decode(body)
        given: tuple[Reason, ...] | UnsetType = UNSET
        basis: Audit | UnsetType = UNSET
        if reasons:
            explanation = await model.explain.ask(numeric, codes)
            probability = explanation.probability
            given = model.explainer.reasons(explanation, reasons, self.scorecard.points_per_log_odds)
            basis = model.explainer.audit(explanation)
        else:
            probability = await model.score.ask(numeric, codes)
        decision = "approve" if probability < model.contract.decision_threshold else "decline"
        self.metrics.scored(probability, decision)
        reference = ModelReference(model.identity.name, model.identity.version)
        points = self.scorecard.points(probability)
        score = Score(request_id, probability, points, decision, reference, self.served_by, given, basis)
        if self.audit:
            self.audit.write("score", **_audited(score))
        return score


def _audited(score: Score) -> dict[str, object]:
    """Return what is written down of an answer; reasons by their codes, for their sentences hold applicants' data."""
    codes = UNSET if isinstance(score.reasons, UnsetType) else [reason.code for reason in score.reasons]
    return {
        "request_id": score.request_id, "model": score.model, "served_by": score.served_by, "decision": score.decision,
        "probability_of_default": score.probability_of_default, "score_points": score.score_points, "reasons": codes,
    }  # fmt: skip


def model_of(slot: ModelSlot) -> Model:
    """Return the slot's model.

    Raises:
        Problem: 503 with the reason when there is none yet.
    """
    if slot.model is None:
        raise Problem(503, f"not ready: {slot.reason}", headers=(("Retry-After", "5"),))
    return slot.model
