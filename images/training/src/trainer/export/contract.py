"""`contract.json`: everything but the network that passes from training to serving (see docs/model-contract.md)."""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainer.data.declaration import Feature, FeatureDeclaration, NumericFeature
from trainer.data.fields import Direction

MODEL_FILE = "model.onnx"
CONTRACT_FILE = "contract.json"

_HISTOGRAM_BINS = 20
# Fields of declared features that the contract lacks or writes in another way.
_TRAINING_ONLY = {"missing", "other", "ordered", "parse", "date_format", "reference_date"}
# Of models whose contract does not say: their sigmoid's own limits are hardly wider.
_UNLIMITED = {"floor": 1e-9, "ceiling": 1 - 1e-9}
# Of models whose contract does not say: this is how their threshold was chosen.
_ADDED_BY_4: dict[str, Any] = {"decision_rule": {"method": "ks_maximum"}, "grades": (), "default_rate": None}
_Share = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NumericContract(_Strict):
    """A numeric feature of an application.

    `missing_values` are numbers that mean that the value is missing; `training_minimum` and `training_maximum` bound
    what the network learned from. `monotonic` is the direction in which the probability of default follows the value,
    and `adverse_action` what a notice says of it.
    """

    name: str
    kind: Literal["numeric"] = "numeric"
    unit: str
    minimum: float
    maximum: float
    missing: bool
    missing_values: tuple[float, ...]
    training_minimum: float
    training_maximum: float
    monotonic: Direction | None
    description: str
    reason_code: str
    adverse_action: str
    protected: bool

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.minimum <= self.training_minimum <= self.training_maximum <= self.maximum:
            raise ValueError(f"{self.name}: the range of the training data is not within minimum to maximum")
        _check_missing_values(self)
        return self


class CategoricalContract(_Strict):
    """A categorical feature of an application.

    `missing_values` are texts that mean that the value is missing; `other` accepts texts outside `categories`, all as
    one more category. `monotonic` is the direction in which the probability of default follows the order of the
    categories, and `adverse_action` what a notice says of the feature.
    """

    name: str
    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    missing: bool
    missing_values: tuple[str, ...]
    other: bool
    monotonic: Direction | None
    description: str
    reason_code: str
    adverse_action: str
    protected: bool

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if both := [value for value in self.missing_values if value in self.categories]:
            raise ValueError(f"{self.name}: means missing, but is also a category: {', '.join(both)}")
        _check_missing_values(self)
        return self


def _check_missing_values(feature: NumericContract | CategoricalContract) -> None:
    if feature.missing_values and not feature.missing:
        raise ValueError(f"{feature.name}: `missing_values` without `missing`")


FeatureContract = Annotated[NumericContract | CategoricalContract, Field(discriminator="kind")]


class ScoreHistogram(_Strict):
    """Distribution of the test rows' scores; `counts` has one entry fewer than `edges`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ProbabilityLimits(_Strict):
    """The graph's probabilities of default stay within floor <= p <= ceiling."""

    floor: Annotated[float, Field(gt=0, lt=1)]
    ceiling: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _floor_is_below_ceiling(self) -> Self:
        if self.floor >= self.ceiling:
            raise ValueError(f"floor {self.floor} is not below ceiling {self.ceiling}")
        return self


class KsMaximum(_Strict):
    """The threshold at which the Kolmogorov-Smirnov distance of defaults and repaid loans is greatest."""

    method: Literal["ks_maximum"] = "ks_maximum"


class ApprovalRate(_Strict):
    """The threshold that approves a share of the applications."""

    method: Literal["approval_rate"] = "approval_rate"
    approval_rate: _Share


class ExpectedCost(_Strict):
    """The threshold from which a loan's expected loss exceeds what it earns; both are shares of the loan."""

    method: Literal["expected_cost"] = "expected_cost"
    loss_given_default: float = Field(gt=0, le=1)
    margin: _Share


class Fixed(_Strict):
    """A threshold that people chose."""

    method: Literal["fixed"] = "fixed"


DecisionRule = Annotated[KsMaximum | ApprovalRate | ExpectedCost | Fixed, Field(discriminator="method")]


class Grade(_Strict):
    """A grade of the master scale, which ends where the next one begins."""

    name: str = Field(min_length=1)
    upper_probability: float = Field(gt=0, le=1)
    expected_default_rate: float = Field(ge=0, le=1)


class Contract(_Strict):
    """Format version 4 of the model contract; versions 1 to 3 are read as if they were.

    Attributes:
        features: What an application must contain.
        ignored: Fields that clients of an older model may still send; the service discards their values.
        probability_limits: The lowest and highest probability of default that the model answers.
        decision_rule: How the decision threshold was chosen.
        grades: The master scale, from the best to the worst grade; empty if none is declared.
        default_rate: The through-the-cycle default rate to which the probabilities were calibrated, if any.
    """

    format_version: Literal[4] = 4
    model_name: str
    features: tuple[FeatureContract, ...]
    ignored: tuple[Annotated[str, Field(min_length=1)], ...]
    reference_applicant: dict[str, float | str]
    score_histogram: ScoreHistogram
    decision_threshold: float
    probability_limits: ProbabilityLimits
    decision_rule: DecisionRule
    grades: tuple[Grade, ...]
    default_rate: _Share | None
    training_data_sha256: str

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, document: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if not isinstance(document, dict):
            return document
        if document.get("format_version") == 1 and "ignored" not in document:
            document = {**document, "format_version": 2, "ignored": ()}
        if document.get("format_version") == 2 and "probability_limits" not in document:
            features = _each(_upgraded_to_3, document.get("features"))
            document = {**document, "format_version": 3, "features": features, "probability_limits": _UNLIMITED}
        if document.get("format_version") == 3 and not _ADDED_BY_4.keys() & document:
            features = _each(_upgraded_to_4, document.get("features"))
            document = {**document, "format_version": 4, "features": features, **_ADDED_BY_4}
        return document

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [*(feature.name for feature in self.features), *self.ignored]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed more than once under `features` and `ignored`: {', '.join(repeated)}")
        return self

    @field_validator("grades")
    @classmethod
    def _grades_divide_all_probabilities(cls, grades: tuple[Grade, ...]) -> tuple[Grade, ...]:
        ends = [grade.upper_probability for grade in grades]
        if any(worse <= better for better, worse in pairwise(ends)) or (ends and ends[-1] < 1):
            raise ValueError(f"upper_probability must rise to 1, but is {', '.join(map(str, ends))}")
        names = [grade.name for grade in grades]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"more than one grade is named {', '.join(repeated)}")
        return grades


def _each(upgraded: Callable[[Any], Any], features: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    return [*map(upgraded, features)] if isinstance(features, list | tuple) else features


def _upgraded_to_3(feature: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return a feature of format version 2 as one of version 3, which refuses what version 2 refused."""
    if not isinstance(feature, dict) or "missing" in feature:
        return feature
    if feature.get("kind") == "categorical":
        return {"missing": False, "missing_values": (), "other": False, **feature}
    reach = {"training_minimum": feature.get("minimum"), "training_maximum": feature.get("maximum")}
    return {"missing": False, "missing_values": (), **reach, **feature}


def _upgraded_to_4(feature: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return a feature of format version 3 as one of version 4, which promises nothing about its direction."""
    if not isinstance(feature, dict) or "monotonic" in feature:
        return feature
    return {"monotonic": None, "adverse_action": "", **feature}


def feature_contracts(declaration: FeatureDeclaration, training: pd.DataFrame) -> tuple[FeatureContract, ...]:
    """Return a resolved declaration's features without what only training needs, and with the training rows' ranges."""
    return tuple(_feature_contract(feature, training[feature.name]) for feature in declaration.features)


def _feature_contract(feature: Feature, values: pd.Series) -> FeatureContract:
    shared = feature.model_dump(exclude=_TRAINING_ONLY) | {"missing": feature.may_be_missing}
    if isinstance(feature, NumericFeature):
        return NumericContract(**shared, training_minimum=float(values.min()), training_maximum=float(values.max()))
    return CategoricalContract(**shared, other=bool(feature.other))


def reference_applicant(frame: pd.DataFrame, declaration: FeatureDeclaration) -> dict[str, float | str]:
    """Return each numeric feature's median and each categorical feature's most frequent category, never missing."""
    return {
        feature.name: float(frame[feature.name].median())
        if isinstance(feature, NumericFeature)
        else str(frame[feature.name][frame[feature.name].isin(feature.categories)].mode()[0])
        for feature in declaration.features
    }


def score_histogram(
    probability: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None = None
) -> ScoreHistogram:
    """Count probabilities, [N], in 20 equal-width bins; rows with weights, [N], as often as these say, N in all."""
    shares = None if weight is None else weight / weight.mean()
    counts, edges = np.histogram(probability, bins=_HISTOGRAM_BINS, range=(0.0, 1.0), weights=shares)
    return ScoreHistogram(
        edges=tuple(round(float(edge), 6) for edge in edges), counts=tuple(round(float(count)) for count in counts)
    )


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
