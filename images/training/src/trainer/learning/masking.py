"""Values hidden from the network, so that it learns what to do without them."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.dataset import Dataset
from trainer.data.inputs import Inputs

_SHARE = 0.01
_ROWS = 50
_LARGEST_SHARE = 0.05


def masked_share(rows: int) -> float:
    """Return the least share of rows from which a missing value is learned: 1 %, more where that is few rows."""
    return min(_LARGEST_SHARE, max(_SHARE, _ROWS / rows))


def mask(data: Dataset, inputs: Inputs, *, seed: int) -> Dataset:
    """Make what may occur occur often enough that its weights are trained.

    A value that may be missing, or an other category, can be rare in the training rows or absent from them; its weights
    would stay close to their random start. Randomly chosen values make up for it. The network learns from them to
    predict as if it did not know the feature, which is all that the data support.

    Args:
        data: Training rows.
        inputs: What their columns may hold.
        seed: Seed of the choice.

    Returns:
        The rows, with the codes of missing and other on at least `masked_share` of them where these may occur.
    """
    if not any(inputs.missing) and not any(column.missing or column.other for column in inputs.categories):
        return data
    share = masked_share(len(data))
    rng = np.random.default_rng(seed)
    numeric, categorical = (
        _copied(data, name, values) for name, values in (("numeric", data.numeric), ("categorical", data.categorical))
    )
    for index in np.flatnonzero(inputs.missing).tolist():
        rows = _chosen(np.isnan(numeric[:, index]), share, rng)
        numeric[rows, index] = np.nan
    for index, column in enumerate(inputs.categories):
        for code in column.codes[column.count :]:
            rows = _chosen(categorical[:, index] == code, share, rng)
            categorical[rows & (categorical[:, index] < column.count), index] = code
    return replace(data, numeric=numeric, categorical=categorical)


def _copied(data: Dataset, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    copied = data.storage.empty(f"masked-{name}", values.shape, values.dtype)
    copied[:] = values
    return copied


def _chosen(present: npt.NDArray[np.bool_], share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    chosen: npt.NDArray[np.bool_] = rng.random(len(present)) < share - float(present.mean())
    return chosen
