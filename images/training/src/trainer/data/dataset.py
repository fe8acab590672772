"""Validated data as arrays, and the train/test split that is the same in every training run."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.columns import distinct
from trainer.data.declaration import FeatureDeclaration
from trainer.data.inputs import CategoryInput
from trainer.data.storage import Memory, Storage

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64] | None
Scalar = TypeVar("Scalar", bound=np.generic)

_PROTECTED_BANDS = 4
# Of the rows whose contents are hashed together; a frame with more would be copied whole.
_HASHED_ROWS = 262_144


_MEMORY = Memory()


@dataclass(frozen=True)
class Dataset:
    """Rows of one split, encoded as the network's inputs.

    Attributes:
        frame: All declared columns in their original form, including those the model may not use; N rows.
        numeric: float32 [N, numeric features]; NaN for a missing value.
        categorical: int64 [N, categorical features], codes as `CategoryInput` defines them; narrower in files.
        target: 1 for default, 0 for repaid; float32 [N].
        weight: How many loans each row stands for, in relation to the others; float64 [N], or None for one each.
        storage: Where all of these are.
    """

    frame: pd.DataFrame
    numeric: Floats
    categorical: npt.NDArray[np.integer[Any]]
    target: Floats
    weight: Weights = None
    storage: Storage = _MEMORY

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
        """Return the rows at these positions, in this order, in memory."""
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


def encode(
    frame: pd.DataFrame, declaration: FeatureDeclaration, storage: Storage = _MEMORY, *, name: str = "rows"
) -> Dataset:
    """Encode validated rows (see `validation.validate`) as arrays of a resolved declaration's features.

    Args:
        frame: The rows.
        declaration: The features.
        storage: Where the arrays are to be.
        name: What their names begin with.
    """
    codes = declaration.inputs.categories
    highest = max((column.other_code for column in codes), default=0)
    narrowest = next(kind for kind in (np.uint8, np.int16, np.int32) if highest <= np.iinfo(kind).max)
    numeric = storage.empty(f"{name}-numeric", (len(frame), len(declaration.numeric)), np.float32)
    categorical = storage.empty(
        f"{name}-categorical", (len(frame), len(codes)), narrowest if storage.is_mapped else np.int64
    )
    target = storage.empty(f"{name}-target", (len(frame),), np.float32)
    for index, feature in enumerate(declaration.numeric):
        numeric[:, index] = frame[feature.name]
    for index, (category, column) in enumerate(zip(declaration.categorical, codes, strict=True)):
        categorical[:, index] = _codes(frame[category.name], category.categories, column)
    target[:] = frame[declaration.target.column]
    weight = frame[declaration.weight_column].to_numpy(dtype=np.float64) if declaration.weight_column else None
    return Dataset(frame, numeric, categorical, target, weight, storage)


def _codes(values: pd.Series, categories: tuple[str, ...], codes: CategoryInput) -> Integers:
    texts, of_rows = distinct(values)
    positions = pd.Index(categories).get_indexer(pd.Index(texts, dtype=object)).astype(np.int64)
    # The last code is that of rows without a value.
    known = np.append(np.where(positions < 0, codes.other_code, positions), codes.missing_code)
    return known[of_rows]


def take_frame(frame: pd.DataFrame, rows: Integers, storage: Storage, *, name: str) -> pd.DataFrame:
    """Return the rows of a frame at these positions, in this order, column by column in a place for arrays."""
    if not storage.is_mapped:
        return frame.iloc[rows].reset_index(drop=True)
    taken = {}
    for index, column in enumerate(frame.columns):
        values = frame[column].array
        source = np.asarray(values.codes) if isinstance(values, pd.Categorical) else frame[column].to_numpy()
        kept = storage.empty(f"{name}-column-{index}", (len(rows),), source.dtype)
        # Any mode but the default one writes to `out` without a copy.
        np.take(source, rows, out=kept, mode="clip")
        taken[column] = (
            pd.Categorical.from_codes(kept, dtype=values.dtype) if isinstance(values, pd.Categorical) else kept
        )
    return pd.DataFrame(taken, copy=False)


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
    salt = np.uint64(pd.util.hash_array(np.array([seed]))[0])
    chosen = np.empty(len(frame), dtype=bool)
    for start in range(0, len(frame), _HASHED_ROWS):
        part = frame.iloc[start : start + _HASHED_ROWS][list(names)]
        salted = pd.util.hash_array(pd.util.hash_pandas_object(part, index=False).to_numpy() ^ salt)
        chosen[start : start + len(part)] = salted.astype(np.float64) / 2.0**64 < share
    return chosen


def protected_groups(frame: pd.DataFrame, declaration: FeatureDeclaration) -> dict[str, pd.Series]:
    """Return each row's group per protected attribute; numeric attributes are binned into quartiles."""
    groups = {}
    for feature in declaration.features:
        if not feature.protected:
            continue
        values = frame[feature.name]
        banded = feature.kind == "numeric"
        grouped = pd.qcut(values, _PROTECTED_BANDS, duplicates="drop") if banded else values
        groups[feature.name] = _named(grouped.astype("category"))
    return groups


def _named(groups: pd.Series) -> pd.Series:
    """Return a Categorical with the names of its categories, one of which stands for missing values."""
    named = groups.cat.rename_categories([str(category) for category in groups.cat.categories])
    if not named.hasnans:
        return named
    known = named if "missing" in named.cat.categories else named.cat.add_categories("missing")
    return known.fillna("missing")
