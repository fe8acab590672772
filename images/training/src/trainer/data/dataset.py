"""Checked data as arrays, and the split that holds the same rows out in every training."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.declaration import FeatureDeclaration

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

_PROTECTED_BANDS = 4


@dataclass(frozen=True)
class Dataset:
    """Rows of one split, in the order and encoding of the network's inputs.

    Attributes:
        frame: The declared columns as people know them (also those that the model may not use), N rows.
        numeric: float32 [N, numeric features].
        categorical: int64 [N, categorical features], positions in the declared categories.
        target: 1 for default, 0 for repaid, float32 [N].
    """

    frame: pd.DataFrame
    numeric: Floats
    categorical: Integers
    target: Floats

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: Integers) -> "Dataset":
        """The rows at these positions, in this order."""
        return Dataset(
            self.frame.iloc[rows].reset_index(drop=True),
            self.numeric[rows],
            self.categorical[rows],
            self.target[rows],
        )


def encode(frame: pd.DataFrame, declaration: FeatureDeclaration) -> Dataset:
    """Turn checked rows (see `validation.validate`) into arrays for the declared features."""
    numeric = [frame[feature.name].to_numpy(dtype=np.float32) for feature in declaration.numeric]
    categorical = [
        pd.Categorical(frame[feature.name], categories=feature.categories).codes.astype(np.int64)
        for feature in declaration.categorical
    ]
    return Dataset(
        frame=frame,
        numeric=_columns(numeric, len(frame), np.float32),
        categorical=_columns(categorical, len(frame), np.int64),
        target=frame[declaration.target.column].to_numpy(dtype=np.float32),
    )


def _columns(columns: list[npt.NDArray[Scalar]], rows: int, dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    return np.stack(columns, axis=1) if columns else np.empty((rows, 0), dtype=dtype)


def held_out(frame: pd.DataFrame, names: tuple[str, ...], *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are kept for testing: decided by each row's content, not by its place.

    A row that was held out once is held out in every later training with the same seed, however the data grows: so
    a Production model has not seen the rows that its challenger is compared on, and copies of a row never stand on
    both sides.

    Args:
        frame: Rows to split.
        names: Columns that make up a row's identity (the declared features).
        share: Expected share of held-out rows.
        seed: Another seed is another split.

    Returns:
        bool [N], true where the row is held out.
    """
    content = pd.util.hash_pandas_object(frame[list(names)], index=False).to_numpy()
    salted = pd.util.hash_array(content ^ np.uint64(pd.util.hash_array(np.array([seed]))[0]))
    return salted.astype(np.float64) / 2.0**64 < share


def protected_groups(frame: pd.DataFrame, declaration: FeatureDeclaration) -> dict[str, pd.Series]:
    """Each protected attribute's group per row; protected numbers are cut into quarters of equal size."""
    groups = {}
    for feature in declaration.features:
        if not feature.protected:
            continue
        values = frame[feature.name]
        banded = feature.kind == "numeric"
        groups[feature.name] = (
            pd.qcut(values, _PROTECTED_BANDS, duplicates="drop").astype(str) if banded else values.astype(str)
        )
    return groups
