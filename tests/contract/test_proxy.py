"""Behind a proxy that reaches nothing inside: the programs talk to the cluster directly, as docs/operations.md says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import boto3
import pytest

from conftest import REPOSITORY
from mlflow_server import mlflow_server
from processes import free_port
from s3_store import simulated_bucket
from trainer.data.synthetic import generate
from unit.scorer.service_process import service

pytestmark = pytest.mark.slow


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody serves, for everything but the names and addresses inside."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "localhost,127.0.0.1,.svc")


@pytest.fixture
def bucket() -> Iterator[str]:
    """The URL of a bucket on an S3 server."""
    with simulated_bucket("data") as name:
        yield f"s3://{name}"


@pytest.mark.soak
def test_a_training_run_reads_s3_and_registers_in_mlflow(bucket: str, proxies: None, tmp_path: Path) -> None:
    generate(3_000, seed=1).to_csv(tmp_path / "loans.csv", index=False)
    boto3.client("s3").upload_file(str(tmp_path / "loans.csv"), "data", "loans.csv")
    with mlflow_server(tmp_path) as url:
        result = train(f"{bucket}/loans.csv", url, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout)["version"] == "1"


def test_the_variables_do_send_a_run_to_the_proxy_if_they_exempt_nothing(
    bucket: str, proxies: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    result = train(f"{bucket}/loans.csv", "http://127.0.0.1:1", tmp_path)
    assert result.returncode != 0
    assert "proxy" in result.stderr.lower()


async def test_the_service_loads_its_model_and_answers(model_folder: Path, proxies: None, tmp_path: Path) -> None:
    applicant = json.loads((model_folder / "contract.json").read_bytes())["reference_applicant"]
    async with (
        service(model_folder, tmp_path) as running,
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/score", json=applicant) as answer,
    ):
        assert answer.status == 200


def train(data: str, tracking_uri: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the trainer as a process, with a small network and limits that it meets."""
    options = ["--data", data, "--json", "--epochs=4", "--maximum-ece=0.2", "--minimum-air=0", "--margin=0.5"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "images/training/src"),
                   "MLFLOW_TRACKING_URI": tracking_uri, "OMP_NUM_THREADS": "1"}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "trainer", *options], capture_output=True, text=True, env=environment, cwd=folder
    )
