"""Score raw loan features with a registered model's own files, `model.onnx` and `contract.json`.

Every registered version contains a copy of this module, from which `mlflow.pyfunc` loads the model.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd


class CreditRiskModel:
    """A model version, loaded from its artifact folder."""

    def __init__(self, folder: Path) -> None:
        self.contract: dict[str, Any] = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> npt.NDArray[np.float32]:  # noqa: ARG002
        """Score rows.

        Args:
            model_input: One column per feature of the contract, in any order; other columns are ignored.
            params: Unused; part of MLflow's interface.

        Returns:
            Probability of default, float32 [N].

        Raises:
            ValueError: A column is missing, or a value is not a number or not an allowed category.
        """
        features = self.contract["features"]
        if missing := [feature["name"] for feature in features if feature["name"] not in model_input.columns]:
            raise ValueError(f"missing columns: {', '.join(missing)}")
        numeric = [_numbers(model_input, f["name"]) for f in features if f["kind"] == "numeric"]
        categorical = [
            _positions(model_input, f["name"], f["categories"]) for f in features if f["kind"] == "categorical"
        ]
        feeds = {
            name: np.stack(columns, axis=1)
            for name, columns in (("numeric", numeric), ("categorical", categorical))
            if name in self._inputs
        }
        return self.run(feeds)

    def run(self, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Score encoded rows: `numeric` float32 [N, numeric features], `categorical` int64 [N, categorical features].

        Returns:
            Probability of default, float32 [N].
        """
        feeds = {name: rows for name, rows in feeds.items() if name in self._inputs}
        (probability,) = self._session.run(["probability_of_default"], feeds)
        return np.asarray(probability, dtype=np.float32)


def _numbers(frame: pd.DataFrame, name: str) -> npt.NDArray[np.float32]:
    numbers = frame[name].to_numpy(dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"column {name}: missing or infinite values")
    return numbers


def _positions(frame: pd.DataFrame, name: str, categories: list[str]) -> npt.NDArray[np.int64]:
    positions = pd.Index(categories).get_indexer(pd.Index(frame[name].astype(str)))
    if (positions < 0).any():
        unknown = sorted({str(value) for value in frame[name][positions < 0]})
        raise ValueError(f"column {name}: {', '.join(unknown)} is not one of {', '.join(categories)}")
    return positions.astype(np.int64)


def _load_pyfunc(path: str) -> CreditRiskModel:
    return CreditRiskModel(Path(path))
