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


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NumericContract(_Strict):
    """A numeric feature of an application."""

    name: str
    kind: Literal["numeric"] = "numeric"
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: str
    protected: bool


class CategoricalContract(_Strict):
    """A categorical feature of an application."""

    name: str
    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    description: str
    reason_code: str
    protected: bool


FeatureContract = Annotated[NumericContract | CategoricalContract, Field(discriminator="kind")]


class ScoreHistogram(_Strict):
    """Distribution of the test rows' scores; `counts` has one entry fewer than `edges`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Contract(_Strict):
    """Format version 2 of the model contract; version 1 is read as a contract that ignores no field.

    Attributes:
        features: What an application must contain.
        ignored: Fields that clients of an older model may still send; the service discards their values.
    """

    format_version: Literal[2] = 2
    model_name: str
    features: tuple[FeatureContract, ...]
    ignored: tuple[Annotated[str, Field(min_length=1)], ...]
    reference_applicant: dict[str, float | str]
    score_histogram: ScoreHistogram
    decision_threshold: float
    training_data_sha256: str

    @model_validator(mode="before")
    @classmethod
    def _upgrade_version_1(cls, document: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if isinstance(document, dict) and document.get("format_version") == 1 and "ignored" not in document:
            return {**document, "format_version": 2, "ignored": ()}
        return document

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [*(feature.name for feature in self.features), *self.ignored]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"listed more than once under `features` and `ignored`: {', '.join(repeated)}")
        return self


def feature_contracts(declaration: FeatureDeclaration) -> tuple[FeatureContract, ...]:
    """Return the declared features without the fields that only training needs."""
    return tuple(
        NumericContract(**feature.model_dump(exclude={"parse", "date_format", "reference_date"}))
        if isinstance(feature, NumericFeature)
        else CategoricalContract(**feature.model_dump(exclude={"ordered"}))
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
