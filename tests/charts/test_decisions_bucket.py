"""The decision log's bucket.py against a real S3 API: the bucket exists afterwards, in whichever region."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import boto3
import pytest

from charts.rendering import of_kind, render
from conftest import REPOSITORY

PROGRAM = REPOSITORY / "charts/decisions/files/bucket.py"


def run(s3: str, region: str, bucket: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": s3, "DECISIONS_S3_BUCKET": bucket,
    }  # fmt: skip
    return subprocess.run([sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_missing_bucket_is_created_in_the_configured_region_and_an_existing_one_kept(s3: str, region: str) -> None:
    for _ in range(2):
        done = run(s3, region, f"decisions-{region}")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"the bucket decisions-{region} is ready\n"
    client = boto3.client(
        "s3", endpoint_url=s3, region_name=region, aws_access_key_id="id", aws_secret_access_key="key"
    )
    location = client.get_bucket_location(Bucket=f"decisions-{region}")["LocationConstraint"]
    assert location == (None if region == "us-east-1" else region)


def test_a_store_that_does_not_answer_fails_the_container_which_the_kubelet_starts_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run(f"http://127.0.0.1:{unused.getsockname()[1]}", "us-east-1", "decisions")
    assert done.returncode != 0
    assert "EndpointConnectionError" in done.stderr


def test_the_pod_runs_this_program() -> None:
    (scripts,) = of_kind(render("decisions/ci/default-values.yaml"), "ConfigMap")
    assert scripts["data"] == {"bucket.py": PROGRAM.read_text()}
