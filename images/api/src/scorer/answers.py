"""What the service answers: plain structs that scoring fills, the canary's client decodes, and OpenAPI describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from scorer.problems import FieldProblem, Problem

Decision = Literal["approve", "decline"]
WarningCode = Literal["outside-training-range", "unseen-category"]
Probability = Annotated[float, Meta(ge=0, le=1)]
RowNumber = Annotated[int, Meta(ge=0)]
Grade = Annotated[str, Meta(description="On the model's master scale; only if its contract has grades")]


class ModelReference(msgspec.Struct, frozen=True, gc=False):
    """The model version that answered."""

    name: str
    version: str


# gc=False: none of these can be part of a reference cycle, and an answer has several per feature.
class Reason(msgspec.Struct, frozen=True, gc=False):
    """A principal reason: a feature that raised the probability of default against the reference applicant."""

    feature: str
    code: Annotated[str, Meta(description="Stable across model versions")]
    reason: Annotated[str, Meta(description="A sentence for people")]
    contribution: Annotated[float, Meta(description="In log-odds of default; above zero")]
    points: Annotated[float, Meta(description="Score points that the feature cost; below zero")]
    missing: Annotated[Literal[True] | UnsetType, Meta(description="If the value was not provided")] = UNSET
    adverse_action: Annotated[
        str | UnsetType, Meta(description="What an adverse-action notice says, if the model has a text for the feature")
    ] = UNSET


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """What one feature added to the log-odds of default."""

    feature: str
    contribution: float
    protected: bool


class Audit(msgspec.Struct, frozen=True, gc=False):
    """How the reasons were computed."""

    method: str
    reference_probability_of_default: Probability
    log_odds_difference: Annotated[float, Meta(description="From the reference applicant to this one")]
    contributions: Annotated[
        tuple[Contribution, ...],
        Meta(description="All features, including protected ones; they sum to log_odds_difference"),
    ]


class InputWarning(msgspec.Struct, frozen=True, gc=False):
    """A value that was scored although the model saw none like it in training."""

    field: str
    code: WarningCode
    detail: Annotated[str, Meta(description="A sentence for people")]


class Score(msgspec.Struct, frozen=True, gc=False):
    """The answer to one application; reasons and audit only if the request asked for reasons.

    A grade only if the model has a master scale.
    Warnings only if there are any and the request did not turn them off. A decision id only if decisions are logged.
    """

    request_id: str
    probability_of_default: Probability
    score_points: int
    decision: Decision
    model: ModelReference
    served_by: str
    grade: Grade | UnsetType = UNSET
    reasons: tuple[Reason, ...] | UnsetType = UNSET
    audit: Audit | UnsetType = UNSET
    warnings: tuple[InputWarning, ...] | UnsetType = UNSET
    decision_id: Annotated[
        str | UnsetType, Meta(description="The decision's UUID in the decision log, if there is one")
    ] = UNSET


class RowScore(msgspec.Struct, frozen=True):
    """A row of a batch that was scored; warnings only if there are any."""

    row: RowNumber
    probability_of_default: Probability
    score_points: int
    decision: Decision
    grade: Grade | UnsetType = UNSET
    warnings: tuple[InputWarning, ...] | UnsetType = UNSET


class RowProblem(msgspec.Struct, frozen=True):
    """What is wrong with a row of a batch."""

    status: int
    detail: str
    errors: tuple[FieldProblem, ...]

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Return the part of a problem that describes its row."""
        return cls(problem.status, problem.detail, problem.errors)


class RefusedRow(msgspec.Struct, frozen=True):
    """A row of a batch that was refused."""

    row: RowNumber
    problem: RowProblem


class RowWarnings(msgspec.Struct, frozen=True):
    """The warnings about a row of a batch."""

    row: RowNumber
    warnings: tuple[InputWarning, ...]


class BatchByRow(msgspec.Struct, frozen=True):
    """The answer to an array of applications."""

    request_id: str
    served_by: str
    model: ModelReference
    # RowScore or RefusedRow: msgspec decodes no union of untagged structs, and nothing here is decoded.
    results: Sequence[Any]


class BatchByColumn(msgspec.Struct, frozen=True):
    """The answer to an object of columns; a refused row is null in every column. Warnings only if there are any."""

    request_id: str
    served_by: str
    model: ModelReference
    probability_of_default: list[Probability | None]
    score_points: list[int | None]
    decision: list[Decision | None]
    errors: list[RefusedRow]
    grade: list[Grade | None] | UnsetType = UNSET
    warnings: list[RowWarnings] | UnsetType = UNSET


class Predictions(msgspec.Struct, frozen=True):
    """The answer of /invocations: probabilities of default in the order of the rows."""

    predictions: list[Probability]
