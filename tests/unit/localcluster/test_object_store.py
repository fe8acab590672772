from __future__ import annotations

import base64
import contextlib
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from localcluster import object_store
from localcluster.console import ClusterError
from unit.localcluster.fakes import Cluster


def test_a_missing_file_is_reported_by_name(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no such data file: .*/none\.csv"):
        object_store.upload(cluster.stack, tmp_path / "none.csv")


def test_a_file_is_uploaded_under_its_digest(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {name: base64.b64encode(name.encode()).decode() for name in ("access-key-id", "secret-access-key")}
    cluster.reply("get-secret", keys)
    file = tmp_path / "loans.csv"
    file.write_text("id\n1\n")
    server = ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        monkeypatch.setattr(object_store, "PortForward", lambda *_: contextlib.nullcontext(url))
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )
        client.create_bucket(Bucket="data")
        uploaded = object_store.upload(cluster.stack, file)
        bucket, key = uploaded.removeprefix("s3://").split("/", 1)
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == file.read_bytes()
        assert key == "7cde7fb64fd8/loans.csv"
    finally:
        server.stop()
