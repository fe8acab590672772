"""Bulk scoring of a version of a real registry, in a real S3 store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.test_replay import register
from creditrisk_scoring.command import main
from creditrisk_scoring.errors import BulkError
from creditrisk_scoring.portable import BatchScorer
from mlflow_server import mlflow_server
from s3_store import s3_client, seaweedfs
from trainer.data.synthetic import generate

pytestmark = pytest.mark.slow
ROWS = 2_000
BUCKET = "book"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    (tmp_path / "store").mkdir()
    with seaweedfs(tmp_path / "store") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        s3_client(variables).create_bucket(Bucket=BUCKET)
        yield variables


@pytest.mark.soak
def test_a_version_that_is_sent_to_workers_comes_from_the_registry(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = pa.RecordBatch.from_pandas(generate(100, seed=9), preserve_index=False)
    expected = BatchScorer(model_folder)(batch)
    with mlflow_server(tmp_path) as url:
        version = register(url, model_folder)
        mlflow.MlflowClient(url).set_registered_model_alias("credit-risk", "night", version)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        for name in (f"models:/credit-risk/{version}", "models:/credit-risk@night"):
            assert BatchScorer(name)(batch) == expected
        with pytest.raises(BulkError, match="has no version of credit-risk with the alias 'noon'"):
            BatchScorer("models:/credit-risk@noon")


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
