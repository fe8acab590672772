"""The scoring itself: one request's body in, one answer out. No HTTP here."""

from __future__ import annotations

import msgspec

from scorer.loader import ModelSlot
from scorer.metrics import Metrics
from scorer.model import Model
from scorer.problems import Problem


class ModelReference(msgspec.Struct, frozen=True):
    """Which model answered."""

    name: str
    version: str


class Score(msgspec.Struct, frozen=True):
    """The answer to one application."""

    request_id: str
    probability_of_default: float
    decision: str
    model: ModelReference
    served_by: str


def score_application(body: bytes, request_id: str, model: Model, served_by: str, metrics: Metrics) -> Score:
    """Score one application.

    Raises:
        Problem: when the application is not one that the model can score.
    """
    probability = float(model.score(*model.decoder.decode(body))[0])
    decision = "approve" if probability < model.contract.decision_threshold else "decline"
    metrics.scores.observe(probability)
    metrics.decisions.labels(decision).inc()
    reference = ModelReference(model.identity.name, model.identity.version)
    return Score(request_id, probability, decision, reference, served_by)


def model_of(slot: ModelSlot) -> Model:
    """Return the slot's model.

    Raises:
        Problem: 503 with the reason when there is none yet.
    """
    if slot.model is None:
        raise Problem(503, f"not ready: {slot.reason}", headers=(("Retry-After", "5"),))
    return slot.model
