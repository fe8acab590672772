"""The MLflow chart's prepare.py against a real S3 API: buckets exist afterwards, in whichever region."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from conftest import REPOSITORY

PREPARE = REPOSITORY / "charts/mlflow/files/prepare.py"


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_missing_buckets_are_created_in_the_configured_region_and_existing_ones_kept(
    s3: str, region: str, tmp_path: Path
) -> None:
    program = tmp_path / "mlflow"
    program.write_text("#!/bin/sh\necho migrated $3\n")
    program.chmod(0o755)
    credentials = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": region}
    with socket.create_server(("127.0.0.1", 0)) as database:
        environment = {
            **os.environ, **credentials, "AWS_ENDPOINT_URL": s3, "BUCKETS": f"mlflow-{region},data-{region}",
            "DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": str(database.getsockname()[1]),
            "MLFLOW_BACKEND_STORE_URI": "postgresql://db", "PATH": f"{tmp_path}:{os.environ['PATH']}",
        }  # fmt: skip
        for _ in range(2):
            done = subprocess.run([sys.executable, str(PREPARE)], env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert "migrated postgresql://db" in done.stdout
    client = boto3.client(
        "s3", endpoint_url=s3, region_name=region, aws_access_key_id="id", aws_secret_access_key="key"
    )
    for bucket in (f"mlflow-{region}", f"data-{region}"):
        location = client.get_bucket_location(Bucket=bucket)["LocationConstraint"]
        assert location == (None if region == "us-east-1" else region)
