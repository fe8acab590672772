"""A report as a run of a real MLflow server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from decisions.drift.document import DriftReport
from decisions.drift.mlflow_run import MlflowError, log_report
from mlflow_server import mlflow_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as url:
        mlflow.set_tracking_uri(url)
        yield MlflowClient(url)


def test_a_report_is_one_run_of_its_day_under_the_training_run(
    client: MlflowClient, report: DriftReport, tmp_path: Path
) -> None:
    training = client.create_run(client.create_experiment("training"))
    client.create_registered_model(report.model)
    version = client.create_model_version(report.model, training.info.artifact_uri or "", training.info.run_id)
    mine = report.model_copy(update={
        "version": str(version.version),
        "performance": [of.model_copy(update={"version": str(version.version)}) for of in report.performance],
    })  # fmt: skip
    url = mlflow.get_tracking_uri()
    run_id = log_report(url, mine)
    assert log_report(url, mine) == run_id, "a report that is made again is the same run"
    run = client.get_run(run_id)
    assert run.info.experiment_id == training.info.experiment_id
    assert run.data.tags["mlflow.parentRunId"] == training.info.run_id
    assert run.data.tags["drift.day"] == "2026-05-18"
    assert run.data.metrics["drift.drifted"] == 1
    assert run.data.metrics["drift.psi.income"] == pytest.approx(mine.features[0].distance.psi.value)
    assert run.data.metrics["realized.default_rate"] > run.data.metrics["expected.default_rate"]
    page = Path(client.download_artifacts(run_id, "drift-report.html", str(tmp_path)))
    assert mine.headline in page.read_text("utf-8")


def test_a_version_that_the_registry_does_not_have_is_named(client: MlflowClient, report: DriftReport) -> None:
    with pytest.raises(MlflowError, match="answered 404"):
        log_report(mlflow.get_tracking_uri(), report.model_copy(update={"model": "unknown", "version": "1"}))
