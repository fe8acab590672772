"""The gate that lets the scoring service itself judge a version, before any pointer moves.

Training and serving share no Python code (docs/adr/0001), so the service's check runs as a process of its own; see
docs/adr/0023.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ValidationError

from trainer.evaluation.gates import PARITY_LIMIT, Gate
from trainer.export.served.credit_risk_model import CreditRiskModel

_NAME = "serving"
_ROWS = 200
# Importing the service takes a second, on a busy node several.
_TIMEOUT_SECONDS = 120
_SHOWN_CHARACTERS = 500


class _Verdict(BaseModel):
    """What `python -m scorer check` prints."""

    servable: bool
    reason: str = ""
    reference_probability: float = float("nan")
    probabilities: tuple[float, ...] = ()


def serving_gate(model: CreditRiskModel, folder: Path, rows: pd.DataFrame) -> Gate:
    """Require that the service loads the version, accepts its reference applicant, and scores as training does.

    Args:
        model: The version, as training scores it.
        folder: Its `model.onnx` and `contract.json`.
        rows: Test rows with a column per feature; the first 200 are sent to the service's decoder as JSON.
    """
    names = [feature["name"] for feature in model.contract["features"]]
    applications = rows.head(_ROWS)[names]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".ndjson") as file:
        # Not by pandas, which rounds to 15 decimal places.
        for row in applications.astype(object).where(applications.notna(), None).to_dict("records"):
            file.write(json.dumps(row, default=float) + "\n")
        file.flush()
        verdict = _ask_service(folder, Path(file.name))
    if isinstance(verdict, str):
        return Gate(_NAME, False, None, PARITY_LIMIT, f"the service's check did not run: {verdict}")
    if not verdict.servable:
        return Gate(_NAME, False, None, PARITY_LIMIT, f"the service refuses it: {verdict.reason}")
    asked = pd.concat([pd.DataFrame([model.contract["reference_applicant"]]), applications], ignore_index=True)
    return scores_gate(model.predict(asked[names]), (verdict.reference_probability, *verdict.probabilities))


def scores_gate(trained: npt.NDArray[np.float32], served: tuple[float, ...]) -> Gate:
    """Require the same scores, [N], from training and service; the first is the reference applicant's."""
    distance = float(np.abs(trained.astype(np.float64) - served).max())
    return Gate(
        _NAME,
        distance <= PARITY_LIMIT,
        distance,
        PARITY_LIMIT,
        f"largest difference between service and training on the reference applicant and {len(served) - 1} test rows",
    )


def _ask_service(folder: Path, applications: Path) -> _Verdict | str:
    """Return the service's verdict on a version, or why it gave none."""
    command = [sys.executable, "-m", "scorer", "check", str(folder), f"--applications={applications}"]
    # The same modules as this process finds, from wherever it is started.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
        return _Verdict.model_validate_json(done.stdout)
    except ValidationError:
        return done.stderr.strip()[-_SHOWN_CHARACTERS:] or f"it ended with exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
