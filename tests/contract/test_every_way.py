"""Every way to score many applications has the same numbers, reasons and problems, by two models.

One is a trained network; the other tells every kind of missing and other value from all others, and has grades.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow.models import Model

from conftest import REPOSITORY
from creditrisk_scoring.command import main
from creditrisk_scoring.scoring import PROBABILITY, PROBLEM, Version, load_version, score
from environments import packages
from java import java_home
from scorer.app import create_app
from scorer.http.media_types import PARQUET
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot
from scorer.model.scorecard import Scorecard
from scorer.settings import Settings
from trainer.data.synthetic import generate
from trainer.export.flavor import save_model
from unit.creditrisk_scoring.applications import applications
from unit.creditrisk_scoring.test_feature_drift import DOCUMENT
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model

pytestmark = pytest.mark.slow
ROWS, REASONS = 2_000, 4
SOURCES = [REPOSITORY / "images" / image / "src" for image in ("api", "scoring", "training")]


@dataclass(frozen=True)
class Case:
    """A version as MLflow stores it, applications of which some are invalid, and their results by `score`."""

    model: Path
    version: Version
    loans: pa.Table
    expected: pa.Table
    scratch: Path

    @property
    def file(self) -> Path:
        return self.scratch / "in" / "loans.parquet"

    @property
    def valid(self) -> pa.Table:
        return self.loans.filter(pc.is_null(self.expected[PROBLEM]))


@pytest.fixture(scope="module", params=["trained", "graded"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    scratch = tmp_path_factory.mktemp(request.param)
    if request.param == "trained":
        model, loans = request.getfixturevalue("model_folder"), trained_loans()
    else:
        files = write_model(tmp_path_factory.mktemp("files"), **GRADED_CONTRACT)
        (files / "training-reference.json").write_text(json.dumps(DOCUMENT))
        model, loans = scratch / "model", applications(ROWS).drop_columns(["account"])
        save_model(str(model), Model(), folder=files)
    version = load_version(model, Scorecard(600, 50, 20))
    loans = loans.append_column("row", pa.array(range(ROWS)))
    expected = score(loans.combine_chunks().to_batches()[0], version, reasons=REASONS)
    found = Case(model, version, loans, pa.table(expected), scratch)
    found.file.parent.mkdir()
    pq.write_table(loans, found.file, row_group_size=600)
    return found


def trained_loans() -> pa.Table:
    loans = generate(ROWS, seed=8).drop(columns=["id", "loan_paid_back"], errors="ignore")
    loans.loc[::97, "credit_score"] = 9_999
    loans.loc[::101, "loan_purpose"] = "Moon"
    loans.loc[::103, "gender"] = None
    return pa.Table.from_pandas(loans, preserve_index=False)


def assert_same(found: pa.Table, case: Case) -> None:
    """Compare results that have a column `row`, in any order, with the expected ones."""
    found = found.sort_by("row")
    assert found["row"].to_pylist() == list(range(ROWS))
    assert 0 < found[PROBLEM].null_count < ROWS
    for name in set(case.expected.schema.names) - {PROBABILITY, "reasons"}:
        assert found[name].to_pylist() == case.expected[name].to_pylist(), name
    ours, theirs = (table[PROBABILITY].to_numpy() for table in (found, case.expected))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    if "reasons" in found.schema.names:
        pairs = zip(*(table["reasons"].to_pylist() for table in (found, case.expected)), strict=True)
        for row, pair in enumerate(pairs):
            assert_same_reasons(case, row, *pair)


def assert_same_reasons(case: Case, row: int, ours: list[str] | None, theirs: list[str] | None) -> None:
    """Compare reason codes; two in other places must be as harmful as each other, to what float32 can tell."""
    if ours is None or theirs is None or ours == theirs:
        assert ours == theirs
        return
    model = case.version.model
    (application,) = case.loans.slice(row, 1).to_pylist()
    rows = model.tables.from_records([{name: value for name, value in application.items() if name != "row"}])
    (explanation,) = model.explainer.explain(rows.numeric, rows.codes)
    codes = [feature.reason_code for feature in model.contract.features]
    harm = dict(zip(codes, explanation.contributions, strict=True)) | {"": 0.0}
    padded = ([harm[code] for code in (*codes, *[""] * (REASONS - len(codes)))] for codes in (ours, theirs))
    assert next(padded) == pytest.approx(next(padded), abs=1e-5)


@pytest.fixture
async def service(case: Case) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(pod_name="pod-1"), ModelSlot(case.version.model), Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        yield http


async def test_the_batch_endpoint(case: Case, service: httpx.AsyncClient) -> None:
    body = io.BytesIO()
    pq.write_table(case.loans.drop_columns(["row"]), body)
    answer = await service.post("/v1/score/batch", content=body.getvalue(), headers={"Content-Type": PARQUET})
    assert answer.status_code == 200, answer.text
    assert_same(pq.read_table(io.BytesIO(answer.content)).append_column("row", case.loans["row"]), case)


async def test_the_single_endpoint(case: Case, service: httpx.AsyncClient) -> None:
    few = case.loans.drop_columns(["row"]).slice(0, 60).to_pylist()
    for row, (application, expected) in enumerate(zip(few, case.expected.to_pylist(), strict=False)):
        answer = await service.post(f"/v1/score?reasons={REASONS}", json=application)
        assert (answer.status_code == 200) == (expected[PROBLEM] is None)
        if answer.status_code == 200:
            one: dict[str, Any] = answer.json()
            assert_same_reasons(case, row, [reason["code"] for reason in one["reasons"]], expected["reasons"])
            assert one["decision"] == expected["decision"]
            assert one[PROBABILITY] == pytest.approx(expected[PROBABILITY], abs=1e-6)


def test_the_command(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    target = case.scratch / "out"
    options = ["--model", str(case.model), "--reasons", str(REASONS), "--keep", "row", "--shard-rows", "600"]
    assert main([str(case.file.parent), str(target), *options]) == 0
    scores, rejected = (pq.read_table(target / name) for name in ("scores", "rejected"))
    assert_same(pa.concat_tables([scores, rejected], promote_options="default"), case)


def test_mlflows_pyfunc_with_results(case: Case) -> None:
    model = mlflow.pyfunc.load_model(str(case.model), model_config={"results": True, "reasons": REASONS})
    found = pa.Table.from_pandas(model.predict(case.loans.to_pandas()), preserve_index=False)
    assert_same(found.append_column("row", case.loans["row"]), case)


def test_mlflows_pyfunc_alone(case: Case) -> None:
    predicted = mlflow.pyfunc.load_model(str(case.model)).predict(case.valid.to_pandas())
    expected = case.expected[PROBABILITY].drop_null().to_numpy()
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-6)


def run(lock: str, program: str | Path, *arguments: str | Path | int, **variables: str | Path) -> None:
    """Run a program with the packages of a lock."""
    path = ":".join(map(str, [packages(REPOSITORY / "requirements" / lock), *SOURCES]))
    environment = {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in variables.items()}}
    command = [sys.executable, str(program), *map(str, arguments)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-4_000:]


def program_of(manifest: str, folder: Path) -> Path:
    """Write the program of an example into a folder, and return its path."""
    documents = yaml.safe_load_all((REPOSITORY / "manifests" / manifest).read_text())
    (program,) = (document["data"]["score.py"] for document in documents if document["kind"] == "ConfigMap")
    (folder / "score.py").write_text(program)
    return folder / "score.py"


def run_spark(case: Case, program: Path, *arguments: str | Path | int) -> None:
    """Run a program in Spark's local mode, with two workers."""
    settings = {
        "ui.enabled": "false",
        "sql.files.maxPartitionBytes": "20k",
        "sql.warehouse.dir": case.scratch / "house",
    }
    local = " ".join(f"--conf spark.{name}={value}" for name, value in settings.items())
    run(
        "spark.txt", program, *arguments,
        JAVA_HOME=java_home(), PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1",
        PYSPARK_SUBMIT_ARGS=f"--master local[2] --driver-memory 1g {local} pyspark-shell",
    )  # fmt: skip


@pytest.mark.soak
def test_spark(case: Case, tmp_path: Path) -> None:
    program, target = program_of("bulk-on-spark.yaml", tmp_path), tmp_path / "scores"
    # The second time as an operator tries again: beside what another attempt has written.
    for _ in range(2):
        run_spark(case, program, case.file, target, case.model, "row")
    assert len(list(target.glob("*.parquet"))) > 1
    assert_same(pq.read_table(target), case)


@pytest.mark.soak
@pytest.mark.parametrize("case", ["trained"], indirect=True)
def test_mlflows_spark_udf(case: Case, tmp_path: Path) -> None:
    valid, target = tmp_path / "valid.parquet", tmp_path / "scores"
    pq.write_table(case.valid, valid)
    program = Path(__file__).with_name("spark_udfs.py")
    for _ in range(2):
        run_spark(case, program, case.model, case.file, valid, REASONS, target)
    assert_same(pq.read_table(target / "results"), case)
    alone = pq.read_table(target / "alone").sort_by("row")
    assert alone["row"].to_pylist() == case.valid["row"].to_pylist()
    expected = case.expected[PROBABILITY].drop_null().to_numpy()
    np.testing.assert_allclose(alone["found"].to_numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.soak
@pytest.mark.parametrize("case", ["graded"], indirect=True)
def test_ray(case: Case, tmp_path: Path) -> None:
    program = program_of("bulk-on-ray.yaml", tmp_path)
    # Without a token in the environment, Ray would write one into the user's home.
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    target = tmp_path / "scores"
    # A socket's path may have 107 bytes.
    for _ in range(2):
        with TemporaryDirectory(prefix="ray-") as temporary:
            run("ray.txt", program, case.file, target, case.model, "row", RAY_TMPDIR=temporary, **variables)
    assert_same(pq.read_table(target), case)
