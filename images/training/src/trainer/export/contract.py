"""`contract.json`: everything but the network that passes from training to serving (see docs/model-contract.md)."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.data.declaration import FeatureDeclaration, NumericFeature

MODEL_FILE = "model.onnx"
CONTRACT_FILE = "contract.json"

_HISTOGRAM_BINS = 20
# Of models whose contract does not say: their sigmoid's own limits are hardly wider.
_UNLIMITED = {"floor": 1e-9, "ceiling": 1 - 1e-9}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NumericContract(_Strict):
    """A numeric feature of an application.

    `missing_values` are numbers that mean that the value is missing; `training_minimum` and `training_maximum` bound
    what the network learned from.
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
    description: str
    reason_code: str
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
    one more category.
    """

    name: str
    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    missing: bool
    missing_values: tuple[str, ...]
    other: bool
    description: str
    reason_code: str
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


class Contract(_Strict):
    """Format version 3 of the model contract; versions 1 and 2 are read as if they were.

    Attributes:
        features: What an application must contain.
        ignored: Fields that clients of an older model may still send; the service discards their values.
        probability_limits: The lowest and highest probability of default that the model answers.
    """

    format_version: Literal[3] = 3
    model_name: str
    features: tuple[FeatureContract, ...]
    ignored: tuple[Annotated[str, Field(min_length=1)], ...]
    reference_applicant: dict[str, float | str]
    score_histogram: ScoreHistogram
    decision_threshold: float
    probability_limits: ProbabilityLimits
    training_data_sha256: str

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, document: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if not isinstance(document, dict):
            return document
        if document.get("format_version") == 1 and "ignored" not in document:
            document = {**document, "format_version": 2, "ignored": ()}
        if document.get("format_version") == 2 and "probability_limits" not in document:
            features = document.get("features")
            document = {
                **document,
                "format_version": 3,
                "features": [*map(_upgraded, features)] if isinstance(features, list | tuple) else features,
                "probability_limits": _UNLIMITED,
            }
        return document

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [*(feature.name for feature in self.features), *self.ignored]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed more than once under `features` and `ignored`: {', '.join(repeated)}")
        return self


def _upgraded(feature: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Return a feature of format version 2 as one of version 3, which refuses what version 2 refused."""
    if not isinstance(feature, dict) or "missing" in feature:
        return feature
    if feature.get("kind") == "categorical":
        return {"missing": False, "missing_values": (), "other": False, **feature}
    reach = {"training_minimum": feature.get("minimum"), "training_maximum": feature.get("maximum")}
    return {"missing": False, "missing_values": (), **reach, **feature}


def feature_contracts(declaration: FeatureDeclaration) -> tuple[FeatureContract, ...]:
    """Return the declared features without the fields that only training needs."""
    complete: dict[str, Any] = {"missing": False, "missing_values": ()}
    return tuple(
        NumericContract(
            **feature.model_dump(exclude={"parse", "date_format", "reference_date"}),
            **complete,
            training_minimum=feature.minimum,
            training_maximum=feature.maximum,
        )
        if isinstance(feature, NumericFeature)
        else CategoricalContract(**feature.model_dump(exclude={"ordered"}), **complete, other=False)
        for feature in declaration.features
    )


def reference_applicant(frame: pd.DataFrame, declaration: FeatureDeclaration) -> dict[str, float | str]:
    """Return each numeric feature's median and each categorical feature's most frequent category."""
    return {
        feature.name: float(frame[feature.name].median())
        if isinstance(feature, NumericFeature)
        else str(frame[feature.name].mode()[0])
        for feature in declaration.features
    }


def score_histogram(probability: npt.NDArray[np.float64]) -> ScoreHistogram:
    """Count probabilities, [N], in 20 equal-width bins."""
    counts, edges = np.histogram(probability, bins=_HISTOGRAM_BINS, range=(0.0, 1.0))
    return ScoreHistogram(
        edges=tuple(round(float(edge), 6) for edge in edges), counts=tuple(int(count) for count in counts)
    )


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
