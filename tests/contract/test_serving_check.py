"""The scoring service's own check of a version, on its own and as training's serving gate."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from conftest import quick_training
from scorer.check import check, main
from trainer.data.declaration import BUILT_IN_DECLARATION
from trainer.data.synthetic import generate
from trainer.errors import GateRefusedError
from trainer.evaluation.serving import scores_gate, serving_gate
from trainer.export.local_copy import write_local_copy
from trainer.export.served.credit_risk_model import CreditRiskModel
from trainer.pipeline import run


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A version's two files, to change."""
    target = tmp_path / "model"
    target.mkdir()
    for name in ("model.onnx", "contract.json"):
        shutil.copyfile(model_folder / name, target / name)
    return target


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    contract = json.loads((folder / "contract.json").read_text())
    change(contract)
    (folder / "contract.json").write_text(json.dumps(contract))
    return folder


def rename(contract: dict[str, Any], old: str, new: str) -> None:
    next(feature for feature in contract["features"] if feature["name"] == old)["name"] = new
    contract["reference_applicant"][new] = contract["reference_applicant"].pop(old)


def test_the_checks_scores_are_those_of_training(folder: Path) -> None:
    model, loans = CreditRiskModel(folder), generate(300, seed=5)
    gate = serving_gate(model, folder, loans)
    assert gate.passed
    assert gate.value is not None
    assert gate.value <= 1e-6
    assert gate.detail.endswith("on the reference applicant and 200 test rows")
    names = [feature["name"] for feature in model.contract["features"]]
    verdict = check(folder, [json.dumps(row).encode() for row in loans[names].to_dict("records")])
    assert verdict.servable
    assert verdict.probabilities == pytest.approx(model.predict(loans).tolist(), abs=1e-6)
    reference = pd.DataFrame([model.contract["reference_applicant"]])
    assert verdict.reference_probability == pytest.approx(float(model.predict(reference)[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: rename(c, "gender", "applicant_id"), "feature applicant_id: the name is reserved"),
        (lambda c: c["ignored"].append("applicant_id"), "ignored field applicant_id: the name is reserved"),
        (lambda c: rename(c, "gender", 'a "b"'), "cannot be decoded: Renamed field names must not"),
        (lambda c: c["reference_applicant"].update(credit_score=9000), "credit_score is 9000.0, out of range"),
        (lambda c: c.update(format_version=99), "is not a contract of format version"),
        (lambda c: c["features"].pop(0), "reference_applicant and features have different names"),
    ],
)
def test_a_version_that_the_service_would_refuse_is_refused_in_its_words(
    change: Callable[[dict[str, Any]], object], reason: str, folder: Path
) -> None:
    model, loans = CreditRiskModel(folder), generate(10, seed=5)
    gate = serving_gate(model, edit(folder, change), loans)
    assert (gate.passed, gate.value) == (False, None)
    assert gate.detail.startswith("the service refuses it: ")
    assert reason in gate.detail


def test_an_application_of_the_test_rows_that_the_decoder_refuses_is_named(folder: Path) -> None:
    loans = generate(10, seed=5)
    loans.loc[3, "loan_purpose"] = "Yacht"
    gate = serving_gate(CreditRiskModel(folder), folder, loans)
    assert "application 4 is refused with 422: 1 invalid field: loan_purpose (loan_purpose is 'Yacht'" in gate.detail


def test_other_scores_than_trainings_are_refused() -> None:
    trained = np.array([0.25, 0.5], dtype=np.float32)
    assert scores_gate(trained, (0.25, 0.500001)).passed
    assert not scores_gate(trained, (0.25, 0.5001)).passed
    assert not scores_gate(trained, (0.25, float("nan"))).passed


def test_without_the_service_nothing_passes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = CreditRiskModel(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.rstrip("/").endswith("images/api/src")])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    gate = serving_gate(model, folder, generate(10, seed=5))
    assert (gate.passed, gate.value) == (False, None)
    assert gate.detail.startswith("the service's check did not run: ")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "No such file" in serving_gate(model, folder, generate(10, seed=5)).detail


@pytest.mark.slow
@pytest.mark.parametrize("part", ["features", "ignored"])
def test_a_reserved_name_that_slipped_past_the_declaration_does_not_move_the_pointer(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.data.fields.RESERVED_NAMES", frozenset())
    declaration, loans = json.loads(BUILT_IN_DECLARATION.read_text()), generate(3_000, seed=0)
    if part == "features":
        next(feature for feature in declaration["features"] if feature["name"] == "gender")["name"] = "applicant_id"
        loans = loans.rename(columns={"gender": "applicant_id"})
    else:
        declaration["ignored"] = ["applicant_id"]
    loans.to_csv(tmp_path / "loans.csv", index=False)
    (tmp_path / "features.json").write_text(json.dumps(declaration))
    settings = quick_training(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "work")
    with pytest.raises(GateRefusedError, match=r"serving REFUSED: not measured.*applicant_id: the name is reserved"):
        run(replace(settings, data=str(tmp_path / "loans.csv"), features=tmp_path / "features.json"))
    assert MlflowClient().get_registered_model("credit-risk").aliases == {}


def test_the_command_checks_a_folder_with_its_manifest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_local_copy(tmp_path / "copy", folder, name="credit-risk", version="7", run_id="r", metrics={})
    lines = tmp_path / "loans.ndjson"
    loans = generate(3, seed=5).drop(columns=["id", "loan_paid_back"])
    lines.write_text("".join(json.dumps(row) + "\n" for row in loans.to_dict("records")))
    assert main([str(tmp_path / "copy"), f"--applications={lines}"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"servable", "reference_probability", "probabilities"}
    assert len(printed["probabilities"]) == 3
    (tmp_path / "copy/contract.json").write_text("{}")
    assert main([str(tmp_path / "copy")]) == 1
    assert "the operator recorded" in json.loads(capsys.readouterr().out)["reason"]
    (tmp_path / "copy/manifest.json").write_text("{")
    assert main([str(tmp_path / "copy")]) == 1
    assert "has no valid manifest.json" in json.loads(capsys.readouterr().out)["reason"]
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "contract.json" in json.loads(capsys.readouterr().out)["reason"]
    with pytest.raises(SystemExit) as caught:
        main([str(folder), "--applications", str(tmp_path / "none")])
    assert caught.value.code == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_the_check_needs_only_what_the_training_image_installs(folder: Path) -> None:
    """The web server and its packages are not in requirements/training.txt."""
    script = (
        "import runpy, sys\n"
        "for name in ('aiohttp', 'fastapi', 'httptools', 'prometheus_client', 'pydantic_settings', 'jwt', 'tenacity',\n"
        "             'uvicorn', 'uvloop', 'arro3'):\n"
        "    sys.modules[name] = None\n"
        f"sys.argv = ['scorer', 'check', {str(folder)!r}]\n"
        "runpy.run_module('scorer', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["servable"] is True
