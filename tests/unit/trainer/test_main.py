"""Exit codes and reports of `python -m trainer`."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from trainer.__main__ import main
from trainer.settings import Settings


@pytest.mark.usefixtures("_restored_signal_handler")
def test_invalid_data_exits_with_2_and_a_json_report(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.csv").write_text("id,gender\n1,Male\n")
    assert main(["--data=empty.csv", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert "credit_score" in {problem["column"] for problem in report["problems"]}


@pytest.mark.usefixtures("_restored_signal_handler")
def test_a_refused_model_exits_with_3_and_logs_every_gate(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--data=synthetic", "--synthetic-rows=1000", "--heads=1", "--hidden=4", "--epochs=1"]
    arguments += [f"--tracking-uri={settings.tracking_uri}", f"--work-dir={settings.work_dir}", "--minimum-auc=1"]
    assert main(arguments) == 3
    version = MlflowClient().get_model_version("credit-risk", "1")
    gates = {key.removeprefix("gate.") for key in version.tags if key.startswith("gate.")} - {"verdict"}
    assert len(gates) == 9
    for gate in gates:
        assert f"gate {gate} " in caplog.text
        assert "limit" in version.tags[f"gate.{gate}"]
