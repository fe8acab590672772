"""Scores one application: a request's body in, an answer out. No HTTP here."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from scorer.answers import Audit, Decision, InputWarning, Reason, Score
from scorer.applications.rows import CodeRows, FloatRows
from scorer.decision_log.origin import Origin
from scorer.model.bundle import Model
from scorer.scoring.context import ScoringContext


class SingleScorer:
    """Scores single applications."""

    def __init__(self, context: ScoringContext) -> None:
        """Take the model, where to count, and where to log."""
        # Kept one by one, because every request needs all of them.
        self._slot, self._scorecard, self._metrics = context.slot, context.scorecard, context.metrics
        self._served_by, self._audit, self._decisions = context.served_by, context.audit, context.decisions

    async def score(self, body: bytes, origin: Origin, reasons: int = 0, *, warnings: bool = True) -> Score:
        """Score one application, give at most `reasons` reasons, and warn of unusual values if `warnings` is true.

        Raises:
            Problem: 503 if there is no model yet, or if the decision must be logged and cannot be; 400 or 422 if the
                application is invalid.
        """
        model = self._slot.require()
        numeric, codes, usual, applicant_id = model.decoder.read(body)
        given: tuple[Reason, ...] | UnsetType = UNSET
        basis: Audit | UnsetType = UNSET
        if reasons:
            explanation = await model.explain.submit(numeric, codes)
            probability = explanation.probability
            given = model.explainer.reasons(explanation, reasons, self._scorecard.points_per_log_odds)
            basis = model.explainer.audit(explanation)
        else:
            probability = await model.score.submit(numeric, codes)
        decision: Decision = "approve" if probability < model.contract.decision_threshold else "decline"
        points = self._scorecard.points(probability)
        decision_id: str | UnsetType = UNSET
        if (log := self._decisions) is not None:
            decision_id = log.add_one(
                model.identity, model.document, origin, applicant_id, numeric, codes, probability, points, decision,
                given,
            )  # fmt: skip
            if log.waits:
                await log.durable()
        self._metrics.scored(probability, decision)
        grade = UNSET if model.scale is None else model.scale.grade(probability)
        told = UNSET if usual else self._warn(model, numeric, codes, tell=warnings)
        score = Score(
            origin.request_id, probability, points, decision, model.reference, self._served_by, grade, given, basis,
            told, decision_id,
        )  # fmt: skip
        if self._audit:
            self._audit.write("score", **_logged(score))
        return score

    def _warn(
        self, model: Model, numeric: FloatRows, codes: CodeRows, *, tell: bool
    ) -> tuple[InputWarning, ...] | UnsetType:
        """Count the warnings about a row, and return them if they are to be told."""
        unusual = model.unusual.find(numeric, codes)
        self._metrics.warned(unusual.counts)
        return unusual.warnings().get(0, UNSET) if tell else UNSET


def _logged(score: Score) -> dict[str, object]:
    """Return what the audit log keeps of an answer; of reasons only codes, since sentences contain applicant data."""
    given = score.reasons
    codes = {} if isinstance(given, UnsetType) else {"reasons": [reason.code for reason in given]}
    identity = {} if isinstance(score.decision_id, UnsetType) else {"decision_id": score.decision_id}
    grade = {} if isinstance(score.grade, UnsetType) else {"grade": score.grade}
    return {
        "request_id": score.request_id, "model": score.model, "served_by": score.served_by, "decision": score.decision,
        "probability_of_default": score.probability_of_default, "score_points": score.score_points, **grade,
        **codes, **identity,
    }  # fmt: skip
