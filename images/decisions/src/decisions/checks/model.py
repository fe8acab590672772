"""What a check asks for, and what it answers: contracts/check.schema.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f\x7f]*$")]
Sql = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00]*$")]
CheckType = Literal["EstimatedAUC", "GradeCalibration", "ReasonDrift", "SQL"]
Chance = Annotated[float, Field(gt=0, lt=1)]


class CheckRequest(BaseModel):
    """One check of a canary against the champion."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: CheckType
    model: Name = Field(description="The registered model")
    stable: Name = Field(description="The champion's version")
    canary: Name = Field(description="The canary's version")
    since: AwareDatetime = Field(description="When the rollout began; earlier decisions of both versions do not count")
    limit: float = Field(ge=0, description="The value that is to be told from larger ones; bounds are narrowest there")
    false_alarm: Chance = Field(description="The chance that the lower bound is ever above the true value")
    missed: Chance = Field(description="The chance that the upper bound is ever below the true value")
    min_samples: int = Field(ge=1, le=1_000_000, description="The fewest decisions of each version to compare them")
    matured_days: int = Field(default=365, ge=0, le=3650, description="How old a decision is whose outcome counts")
    query: Sql | None = Field(default=None, description="Of SQL, and of it alone")

    @model_validator(mode="after")
    def _query_of_sql(self) -> Self:
        if (self.query is not None) != (self.type == "SQL"):
            raise ValueError("query is required for SQL, and only allowed there")
        return self


class CheckAnswer(BaseModel):
    """The number that was found, with bounds at all looks together. SQL has no bounds."""

    name: str = Field(description="What the value is, in words that come before it")
    value: float | None = Field(description="null: the log does not say; the message says why")
    lower: float | None = None
    upper: float | None = None
    samples: int = Field(default=0, ge=0, description="How many decisions are behind the value")
    unit: str = Field(default="decisions", description="What the samples are")
    message: str = Field(default="", description="Further numbers, or why there is no value")


@dataclass(frozen=True)
class Estimate:
    """A number and the variance of it as an estimate."""

    value: float
    variance: float
