"""Score raw loan features with a registered model's own files, `model.onnx` and `contract.json`.

Every registered version contains a copy of this module, from which `mlflow.pyfunc` loads the model.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd

# What `model_config` may change: `results` for points, decisions, problems by row and so many reasons, computed by the
# scoring service's own code, instead of probabilities alone.
MODEL_CONFIG: dict[str, Any] = {"results": False, "reasons": 0, "scorecard": [600, 50, 20]}
_INTEGER_AS_FLOAT = re.compile(r"(-?\d+)\.0+", re.ASCII)


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
            model_input: One column per feature of the contract, in any order; other columns are ignored. The column of
                a feature that may be missing may be absent, and its cells NaN, None, or one of its `missing_values`.
            params: Unused; part of MLflow's interface.

        Returns:
            Probability of default, float32 [N].

        Raises:
            ValueError: A column is missing, or a value is missing, not a number or not an allowed category.
        """
        if absent := self._absent(model_input):
            raise ValueError(f"missing columns: {', '.join(absent)}")
        feeds, refused = self._encode(model_input)
        if problem := next((text for rows, text in refused if rows.any()), None):
            raise ValueError(problem)
        return self.run(feeds)

    def accepts(self, model_input: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which rows `predict` can score, bool [N]; none of them if a column is missing."""
        if self._absent(model_input):
            return np.zeros(len(model_input), dtype=bool)
        accepted = np.ones(len(model_input), dtype=bool)
        for rows, _ in self._encode(model_input)[1]:
            accepted &= ~rows
        return accepted

    def _absent(self, frame: pd.DataFrame) -> list[str]:
        """Return the columns that are not there, of features that may not be missing."""
        features = self.contract["features"]
        return [f["name"] for f in features if f["name"] not in frame.columns and not f.get("missing")]

    def _encode(
        self, frame: pd.DataFrame
    ) -> tuple[dict[str, npt.NDArray[Any]], list[tuple[npt.NDArray[np.bool_], str]]]:
        """Return the inputs of the graph, and per column the rows that cannot be scored and why."""
        columns: dict[str, list[npt.NDArray[Any]]] = {"numeric": [], "categorical": []}
        refused = []
        for feature in self.contract["features"]:
            name = feature["name"]
            values = frame[name] if name in frame.columns else pd.Series(np.nan, index=frame.index)
            encoded, wrong, problem = (_numbers if feature["kind"] == "numeric" else _codes)(values, feature)
            columns[feature["kind"]].append(encoded)
            refused.append((wrong, f"column {name}: {problem}"))
        return {name: np.stack(arrays, axis=1) for name, arrays in columns.items() if arrays}, refused

    def run(self, feeds: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Score encoded rows: `numeric` float32 [N, numeric features], `categorical` int64 [N, categorical features].

        Returns:
            Probability of default, float32 [N].
        """
        feeds = {name: rows for name, rows in feeds.items() if name in self._inputs}
        (probability,) = self._session.run(["probability_of_default"], feeds)
        return np.asarray(probability, dtype=np.float32)


# A column's part of an input, the rows that cannot be scored, and why.
_Column = tuple[npt.NDArray[Any], npt.NDArray[np.bool_], str]


def _numbers(values: pd.Series, feature: dict[str, Any]) -> _Column:
    """Return numbers as the graph reads them, NaN for missing, float32 [N]."""
    numbers = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = np.where(np.isin(numbers, feature.get("missing_values", ())), np.nan, numbers)
    missing = np.isnan(numbers)
    refused = np.isinf(numbers) if feature.get("missing") else ~np.isfinite(numbers)
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32), refused, "missing or infinite values" if missing.any() else "infinite values"


def _codes(values: pd.Series, feature: dict[str, Any]) -> _Column:
    """Return category codes as the graph reads them, int64 [N]."""
    categories, sentinels = feature["categories"], feature.get("missing_values", ())
    texts = _as_spelled(values.astype(str), (*categories, *sentinels))
    codes = pd.Index(categories).get_indexer(pd.Index(texts)).astype(np.int64)
    missing = values.isna().to_numpy() | texts.isin(sentinels).to_numpy()
    other = ~missing & (codes < 0)
    codes[missing], codes[other] = len(categories), len(categories) + 1
    refused = (missing & (not feature.get("missing"))) | (other & (not feature.get("other")))
    unknown = sorted({str(value) for value in values[refused]})
    return codes, refused, f"{', '.join(unknown)} is not one of {', '.join(categories)}"


def _as_spelled(texts: pd.Series, known: Sequence[str]) -> pd.Series:
    """Return texts in the known spelling of the same number or boolean, as in training: "1.0" is 1, "True" is true."""
    unknown = texts[~texts.isin(known)].dropna().unique()
    if not len(unknown):
        return texts
    booleans = {text.lower(): text for text in sorted(known, reverse=True) if text.lower() in ("true", "false")}
    found = {text: text for text in known}
    for text in unknown:
        found[text] = booleans.get(text.lower(), text)
        if (integer := _INTEGER_AS_FLOAT.fullmatch(text)) and integer[1] in known:
            found[text] = integer[1]
    return texts.map(found)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - either model
    """Return what `mlflow.pyfunc.load_model` wraps: `CreditRiskModel`, or all results if the configuration asks."""
    given = {**MODEL_CONFIG, **(model_config or {})}
    if not given["results"]:
        return CreditRiskModel(Path(path))
    try:
        # Not part of the version: whoever wants results of the scoring service installs its code.
        from creditrisk_scoring.pyfunc import ResultsModel  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f"results need the package credit-risk-platform[bulk], which is not here: {error}") from error
    return ResultsModel(path, reasons=given["reasons"], scorecard=given["scorecard"])
