"""`contract.json`: what passes from training to serving, besides the network (see docs/model-contract.md)."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trainer.data.declaration import FeatureDeclaration, NumericFeature

MODEL_FILE = "model.onnx"
CONTRACT_FILE = "contract.json"

_HISTOGRAM_BINS = 20


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NumericContract(_Strict):
    """A numeric feature as the service asks for it."""

    name: str
    kind: Literal["numeric"] = "numeric"
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: str
    protected: bool


class CategoricalContract(_Strict):
    """A categorical feature as the service asks for it."""

    name: str
    kind: Literal["categorical"] = "categorical"
    categories: tuple[str, ...]
    description: str
    reason_code: str
    protected: bool


FeatureContract = Annotated[NumericContract | CategoricalContract, Field(discriminator="kind")]


class ScoreHistogram(_Strict):
    """How the scores of the test rows were distributed; `counts` has one entry less than `edges`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Contract(_Strict):
    """Format version 1 of the model contract."""

    format_version: Literal[1] = 1
    model_name: str
    features: tuple[FeatureContract, ...]
    reference_applicant: dict[str, float | str]
    score_histogram: ScoreHistogram
    decision_threshold: float
    training_data_sha256: str


def feature_contracts(declaration: FeatureDeclaration) -> tuple[FeatureContract, ...]:
    """The declared features without what only training needs."""
    return tuple(
        NumericContract(**feature.model_dump())
        if isinstance(feature, NumericFeature)
        else CategoricalContract(**feature.model_dump(exclude={"ordered"}))
        for feature in declaration.features
    )


def reference_applicant(frame: pd.DataFrame, declaration: FeatureDeclaration) -> dict[str, float | str]:
    """The middle of the training rows: the median of each number, the most frequent category."""
    return {
        feature.name: float(frame[feature.name].median())
        if isinstance(feature, NumericFeature)
        else str(frame[feature.name].mode()[0])
        for feature in declaration.features
    }


def score_histogram(probability: npt.NDArray[np.float64]) -> ScoreHistogram:
    """Count probabilities, [N], in 20 bins of equal width."""
    counts, edges = np.histogram(probability, bins=_HISTOGRAM_BINS, range=(0.0, 1.0))
    return ScoreHistogram(
        edges=tuple(round(float(edge), 6) for edge in edges), counts=tuple(int(count) for count in counts)
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def incompatibilities(production: Contract, challenger: Contract) -> tuple[str, ...]:
    """Why a client of the Production model could be refused or misled by the challenger.

    A feature that is no longer asked for harms nobody; a new, changed or narrowed one does.
    """
    known = {feature.name: feature for feature in production.features}
    found = []
    for feature in challenger.features:
        before = known.get(feature.name)
        if before is None:
            found.append(f"{feature.name}: new, present clients do not send it")
        elif isinstance(before, NumericContract) and isinstance(feature, NumericContract):
            found += _numeric_changes(before, feature)
        elif isinstance(before, CategoricalContract) and isinstance(feature, CategoricalContract):
            if gone := [category for category in before.categories if category not in feature.categories]:
                found.append(f"{feature.name}: categories no longer allowed: {', '.join(gone)}")
        else:
            found.append(f"{feature.name}: was {before.kind}, is {feature.kind}")
        if before is not None and before.reason_code != feature.reason_code:
            found.append(f"{feature.name}: reason code was {before.reason_code}, is {feature.reason_code}")
    return tuple(found)


def _numeric_changes(before: NumericContract, now: NumericContract) -> list[str]:
    found = []
    if before.unit != now.unit:
        found.append(f"{now.name}: unit was {before.unit}, is {now.unit}")
    if now.minimum > before.minimum or now.maximum < before.maximum:
        found.append(
            f"{now.name}: range was {before.minimum:g} .. {before.maximum:g}, is {now.minimum:g} .. {now.maximum:g}"
        )
    return found
