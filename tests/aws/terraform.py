"""Terraform against a moto server on loopback: finding and running both."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from conftest import REPOSITORY

PROVIDER = Path("registry.terraform.io/hashicorp/aws")
ACCOUNT = "123456789012"
REGION = "eu-central-1"
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def terraform() -> str:
    """Return the path of Terraform, or skip the test."""
    found = os.environ.get("TERRAFORM") or shutil.which("terraform")
    return found or pytest.skip("terraform is not installed")


def provider_mirror() -> Path | None:
    """Return a folder that holds the AWS provider, from $TERRAFORM_PLUGIN_DIR or the usual places."""
    home = Path.home()
    places = [
        os.environ.get("TERRAFORM_PLUGIN_DIR"),
        os.environ.get("TF_PLUGIN_CACHE_DIR"),
        home / ".terraform.d/plugins",
        home / ".local/share/terraform/plugins",
        "/usr/local/share/terraform/plugins",
        "/usr/share/terraform/plugins",
        *sorted(Path("/opt").glob("*")),
    ]
    return next((Path(place) for place in places if place and (Path(place) / PROVIDER).is_dir()), None)


@dataclass(frozen=True)
class Workspace:
    """An initialized copy of one Terraform folder that uses the given endpoint."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def make(cls, scratch: Path, endpoint: str, root: str = "infra/aws") -> Workspace:
        """Copy `root` and the files it reads, keep the state in a file, and install the provider."""
        shutil.copytree(REPOSITORY / "infra", scratch / "infra", ignore=shutil.ignore_patterns(".terraform*"))
        shutil.copytree(REPOSITORY / "manifests", scratch / "manifests")
        folder = scratch / root
        (folder / "test_override.tf").write_text(
            'terraform {\n  backend "local" {}\n}\nprovider "aws" {\n  s3_use_path_style = true\n}\n'
        )
        workspace = cls(folder, {**os.environ, **credentials(endpoint), "TF_IN_AUTOMATION": "1"})
        mirror = provider_mirror()
        workspace.run("init", "-input=false", *([f"-plugin-dir={mirror}"] if mirror else []))
        return workspace

    def try_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Terraform and return the result without color codes and box-drawing characters."""
        result = subprocess.run(
            [terraform(), *arguments],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=240,
        )
        result.stdout, result.stderr = (COLOR.sub("", text) for text in (result.stdout, result.stderr))
        return result

    def run(self, *arguments: str) -> str:
        """Run Terraform and return its output; fail the test with its error."""
        result = self.try_run(*arguments)
        assert result.returncode == 0, f"terraform {arguments[0]}:\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def variables(self, values: Mapping[str, Any]) -> None:
        """Write the variables to terraform.tfvars.json."""
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(values))

    def outputs(self) -> dict[str, Any]:
        """Return the outputs' values."""
        return {name: output["value"] for name, output in json.loads(self.run("output", "-json")).items()}


def credentials(endpoint: str) -> dict[str, str]:
    """Return the environment of AWS's clients for an endpoint that believes anybody."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(service: str, endpoint: str) -> Any:
    """Return a boto3 client of the moto server."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@contextmanager
def moto_server(log: Path) -> Iterator[str]:
    """Yield the address of a fresh moto server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("w") as out:
        environment = {**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("moto_server.py")), "-H", "127.0.0.1", "-p", str(port)],
            stdout=out,
            stderr=out,
            env=environment,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/moto-api/", process, log)
        yield address
    finally:
        process.terminate()
        process.wait(120)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server that was just started responds."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"{url} does not answer: {log.read_text()}"
            time.sleep(0.2)
        else:
            return
