"""Validated data as arrays, and the train/test split that is the same in every training run."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.declaration import FeatureDeclaration
from trainer.data.inputs import CategoryInput

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64] | None
Scalar = TypeVar("Scalar", bound=np.generic)

_PROTECTED_BANDS = 4


@dataclass(frozen=True)
class Dataset:
    """Rows of one split, encoded as the network's inputs.

    Attributes:
        frame: All declared columns in their original form, including those the model may not use; N rows.
        numeric: float32 [N, numeric features]; NaN for a missing value.
        categorical: int64 [N, categorical features], codes as `CategoryInput` defines them.
        target: 1 for default, 0 for repaid; float32 [N].
        weight: How many loans each row stands for, in relation to the others; float64 [N], or None for one each.
    """

    frame: pd.DataFrame
    numeric: Floats
    categorical: Integers
    target: Floats
    weight: Weights = None

    def __len__(self) -> int:
        return len(self.target)

    @property
    def has_both_outcomes(self) -> bool:
        """Whether there are defaults and repaid loans, both with some weight."""
        return has_both_outcomes(self.target, self.weight)

    @property
    def effective_rows(self) -> float:
        """How many rows of equal weight are as good a sample (Kish, "Survey Sampling", 1965)."""
        return len(self) if self.weight is None else float(self.weight.sum() ** 2 / (self.weight**2).sum())

    def outcomes(self, rows: Integers) -> tuple[npt.NDArray[np.float64], Weights]:
        """Return the target and the weight of the rows at these positions."""
        return self.target[rows].astype(np.float64), None if self.weight is None else self.weight[rows]

    def take(self, rows: Integers) -> "Dataset":
        """Return the rows at these positions, in this order."""
        return Dataset(
            self.frame.iloc[rows].reset_index(drop=True),
            self.numeric[rows],
            self.categorical[rows],
            self.target[rows],
            None if self.weight is None else self.weight[rows],
        )


def has_both_outcomes(target: npt.NDArray[np.floating[Any]], weight: Weights) -> bool:
    """Return whether there are defaults and repaid loans, both with some weight; target and weight are [N]."""
    return len(np.unique(target if weight is None else target[weight > 0])) == 2


def encode(frame: pd.DataFrame, declaration: FeatureDeclaration) -> Dataset:
    """Encode validated rows (see `validation.validate`) as arrays of a resolved declaration's features."""
    numeric = [frame[feature.name].to_numpy(dtype=np.float32) for feature in declaration.numeric]
    categorical = [
        _codes(frame[feature.name], feature.categories, codes)
        for feature, codes in zip(declaration.categorical, declaration.inputs.categories, strict=True)
    ]
    return Dataset(
        frame=frame,
        numeric=_columns(numeric, len(frame), np.float32),
        categorical=_columns(categorical, len(frame), np.int64),
        target=frame[declaration.target.column].to_numpy(dtype=np.float32),
        weight=frame[declaration.weight_column].to_numpy(dtype=np.float64) if declaration.weight_column else None,
    )


def _codes(values: pd.Series, categories: tuple[str, ...], codes: CategoryInput) -> Integers:
    positions = pd.Index(categories).get_indexer(pd.Index(values.astype(object))).astype(np.int64)
    outside = np.where(values.isna(), codes.missing_code, codes.other_code)
    return np.where(positions < 0, outside, positions)


def _columns(columns: list[npt.NDArray[Scalar]], rows: int, dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), dtype=dtype)


def held_out(frame: pd.DataFrame, names: tuple[str, ...], *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Choose the test rows by each row's content, not by its position.

    With the same seed, a row that was held out once is held out in every later run, even as the data grows. So a
    Production model has never seen the rows on which a challenger is compared with it, and duplicates of a row never
    end up on both sides of the split.

    Args:
        frame: Rows to split.
        names: Columns that identify a row (the declared features).
        share: Expected share of held-out rows.
        seed: Selects the split.

    Returns:
        bool [N], true for held-out rows.
    """
    content = pd.util.hash_pandas_object(frame[list(names)], index=False).to_numpy()
    salted = pd.util.hash_array(content ^ np.uint64(pd.util.hash_array(np.array([seed]))[0]))
    return salted.astype(np.float64) / 2.0**64 < share


def protected_groups(frame: pd.DataFrame, declaration: FeatureDeclaration) -> dict[str, pd.Series]:
    """Return each row's group per protected attribute; numeric attributes are binned into quartiles."""
    groups = {}
    for feature in declaration.features:
        if not feature.protected:
            continue
        values = frame[feature.name]
        banded = feature.kind == "numeric"
        grouped = pd.qcut(values, _PROTECTED_BANDS, duplicates="drop") if banded else values
        groups[feature.name] = grouped.astype(str).mask(values.isna(), "missing")
    return groups
