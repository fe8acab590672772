"""`training-reference.json`: how each feature was distributed in the training rows.

contracts/training-reference.schema.json describes it. Drift of applicants is measured against it; scoring never reads
it, so it is a file of its own beside the contract.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.dataset import Dataset
from trainer.export.contract import Contract, NumericContract

REFERENCE_FILE = "training-reference.json"
_PARTS = 10
_Floats = npt.NDArray[np.float64]


def write_reference(contract: Contract, training: Dataset, folder: Path) -> None:
    """Write the distributions of the features in the training rows, which count by their weights, N in all.

    Args:
        contract: Of the model, with its features in the order of the dataset's columns.
        training: The rows that it learned from.
        folder: Where to write.
    """
    weight = np.ones(len(training)) if training.weight is None else training.weight / training.weight.mean()
    numeric, categorical = iter(training.numeric.T), iter(training.categorical.T)
    features = {
        feature.name: _numeric(next(numeric), weight)
        if isinstance(feature, NumericContract)
        else _categorical(next(categorical), feature.categories, weight)
        for feature in contract.features
    }
    document = {"format_version": 1, "training_data_sha256": contract.training_data_sha256, "features": features}
    (folder / REFERENCE_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _numeric(values: npt.NDArray[np.float32], weight: _Floats) -> dict[str, Any]:
    """Count values, [N] with NaN for missing ones, between their tenths; a frequent value has one bin alone.

    Edges are values, as short as decision records write them: what is an edge here is one there, too.
    """
    known = np.isfinite(values)
    tenths = np.arange(1, _PARTS) / _PARTS
    edges = np.unique(np.quantile(values[known], tenths, method="inverted_cdf")) if known.any() else values[:0]
    bins = np.searchsorted(edges, values[known], side="right")
    counts = np.bincount(bins, weight[known], minlength=len(edges) + 1)
    missing = _rounded(weight[~known].sum())
    short = [float(str(edge)) for edge in edges]
    return {"kind": "numeric", "edges": short, "counts": _rounded(counts), "missing": missing}


def _categorical(codes: npt.NDArray[np.int64], categories: tuple[str, ...], weight: _Floats) -> dict[str, Any]:
    """Count codes, [N]: the places of categories, then missing and other."""
    *counts, missing, other = _rounded(np.bincount(codes, weight, minlength=len(categories) + 2))
    by_name = dict(zip(categories, counts, strict=True))
    return {"kind": "categorical", "counts": by_name, "missing": missing, "other": other}


def _rounded(counts: Any) -> Any:  # noqa: ANN401 - a number or an array of them
    return np.round(counts, 3).tolist()
