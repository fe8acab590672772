"""Tables of Delta Lake and Iceberg in a real S3 store, as pods read them: by the variables that AWS's tools read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from creditrisk_scoring.command import main
from s3_store import bucket_in_environment
from unit.creditrisk_scoring.applications import applications
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model

pytestmark = pytest.mark.slow
BUCKET = "lake"
ROWS = 500


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with bucket_in_environment(tmp_path_factory.mktemp("store"), BUCKET) as variables:
        yield variables


def write_delta(store: dict[str, str], _: Path) -> str:
    url = f"s3://{BUCKET}/delta"
    options = {"aws_endpoint_url": store["AWS_ENDPOINT_URL"], "aws_allow_http": "true", "aws_conditional_put": "etag"}
    for seed in range(2):
        write_deltalake(url, applications(ROWS, seed), mode="overwrite", partition_by=["home"], storage_options=options)
    return url


def write_iceberg(store: dict[str, str], scratch: Path) -> str:
    catalog = SqlCatalog("test", **{"uri": f"sqlite:///{scratch}/c.db", "warehouse": f"s3://{BUCKET}/iceberg",
                                    "s3.endpoint": store["AWS_ENDPOINT_URL"]})  # fmt: skip
    catalog.create_namespace("bank")
    table = catalog.create_table("bank.book", schema=applications(0).schema)
    for seed in range(2):
        table.overwrite(applications(ROWS, seed))
    return table.location()


WRITERS = {"delta": write_delta, "iceberg": write_iceberg}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_in_a_bucket_is_scored_as_its_newest_version_alone(
    store: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "model").mkdir()
    model = write_model(tmp_path / "model", **GRADED_CONTRACT)
    source = WRITERS[kind](store, tmp_path)
    assert main([source, f"s3://{BUCKET}/out/{kind}", "--model", str(model), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"] == ROWS, "the rows of the first version are not the table's any more"
    assert summary["table"]["format"] == kind
