"""Bulk scoring and the service give the same answers, on a real registry and in a real S3 store."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.test_replay import register
from creditrisk_scoring.command import main
from creditrisk_scoring.scoring import Version, load_version, score
from mlflow_server import mlflow_server
from s3_store import s3_client, seaweedfs
from scorer.app import create_app
from scorer.http.media_types import PARQUET
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot
from scorer.model.scorecard import Scorecard
from scorer.settings import Settings
from trainer.data.synthetic import generate
from unit.creditrisk_scoring.applications import applications
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model

pytestmark = pytest.mark.slow
ROWS = 2_000
BUCKET = "book"


@pytest.fixture
def version(request: pytest.FixtureRequest, tmp_path: Path) -> Version:
    """A trained network, or one that tells every kind of missing and other value from all others."""
    if request.param == "trained":
        folder = request.getfixturevalue("model_folder")
    else:
        folder = write_model(tmp_path, **GRADED_CONTRACT)
    return load_version(folder, Scorecard(600, 50, 20))


@pytest.fixture
async def service(version: Version) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(pod_name="pod-1"), ModelSlot(version.model), Metrics())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        yield http


def loans_of(version: Version) -> pa.Table:
    """Return applications of which some are invalid."""
    if version.contract.grades:
        return applications(ROWS).drop_columns(["account"])
    loans = generate(ROWS, seed=8)
    loans.loc[::97, "credit_score"] = 9_999
    loans.loc[::101, "loan_purpose"] = "Moon"
    names = [feature.name for feature in version.contract.features]
    return pa.Table.from_pandas(loans[names], preserve_index=False)


@pytest.mark.parametrize("version", ["trained", "graded"], indirect=True)
async def test_bulk_scoring_has_the_batch_endpoint_s_numbers(version: Version, service: httpx.AsyncClient) -> None:
    loans = loans_of(version)
    body = io.BytesIO()
    pq.write_table(loans, body)
    answer = await service.post("/v1/score/batch", content=body.getvalue(), headers={"Content-Type": PARQUET})
    assert answer.status_code == 200, answer.text
    answered = pq.read_table(io.BytesIO(answer.content))
    found = pa.table(score(loans.combine_chunks().to_batches()[0], version))
    assert 0 < found["problem"].null_count < ROWS
    for name in set(found.schema.names) - {"probability_of_default"}:
        assert found[name].to_pylist() == answered[name].to_pylist(), name
    ours, theirs = (table["probability_of_default"].to_pandas() for table in (found, answered))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", ["trained", "graded"], indirect=True)
async def test_bulk_scoring_has_the_single_endpoint_s_reasons(version: Version, service: httpx.AsyncClient) -> None:
    loans = loans_of(version).slice(0, 60)
    found = score(loans.combine_chunks().to_batches()[0], version, reasons=4).to_pylist()
    for application, ours in zip(loans.to_pylist(), found, strict=True):
        answer = await service.post("/v1/score?reasons=4", json=application)
        assert (answer.status_code == 200) == (ours["problem"] is None)
        if answer.status_code == 200:
            one = answer.json()
            assert [reason["code"] for reason in one["reasons"]] == ours["reasons"]
            assert one["decision"] == ours["decision"]
            assert one["probability_of_default"] == pytest.approx(ours["probability_of_default"], abs=1e-6)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    (tmp_path / "store").mkdir()
    with seaweedfs(tmp_path / "store") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        s3_client(variables).create_bucket(Bucket=BUCKET)
        yield variables


def test_a_version_of_the_registry_scores_a_bucket(
    store: dict[str, str], model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, body = s3_client(store), io.BytesIO()
    loans = generate(ROWS, seed=9)
    pq.write_table(pa.Table.from_pandas(loans, preserve_index=False), body, row_group_size=500)
    client.put_object(Bucket=BUCKET, Key="in/2026/book.parquet", Body=body.getvalue())
    local = tmp_path / "in" / "2026"
    local.mkdir(parents=True)
    (local / "book.parquet").write_bytes(body.getvalue())
    options = ["--shard-rows", "500", "--json"]
    (tmp_path / "mlflow").mkdir()
    with mlflow_server(tmp_path / "mlflow") as url:
        pinned = ["--version", register(url, model_folder), "--registry", url]
        assert main([f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", *pinned, *options]) == 0
        summary = json.loads(capsys.readouterr().out)
        client.delete_object(Bucket=BUCKET, Key="out/_bulk/done/part-00001.json")
        client.delete_object(Bucket=BUCKET, Key="out/scores/part-00001.parquet")
        assert main([f"s3://{BUCKET}/in/", f"s3://{BUCKET}/out/", *pinned, *options]) == 0
        mlflow.MlflowClient(url).delete_registered_model("credit-risk")
        assert main([f"s3://{BUCKET}/in", f"s3://{BUCKET}/out", *pinned, *options]) == 1
    assert json.loads(capsys.readouterr().out) == summary
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(model_folder), *options]) == 0
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]]
    # Arrow leaves an empty object in the place of the folder.
    assert [key for key in keys if "staging/" in key] in ([], ["out/_bulk/staging/"])
    scores = [key for key in keys if key.startswith("out/scores/")]
    tables = [client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in sorted(scores)]
    there = pa.concat_tables(pq.read_table(io.BytesIO(table)) for table in tables)
    here = pq.read_table(tmp_path / "out" / "scores")
    pd.testing.assert_frame_equal(there.to_pandas(), here.to_pandas())
    assert summary["scored"] == here.num_rows == ROWS
