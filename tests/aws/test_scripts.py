"""CI's scripts without GitHub: what is pushed and what is not, and how a job logs in to Kubernetes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aws.terraform import ACCOUNT, REGION, client, credentials
from conftest import REPOSITORY
from localcluster.images import STACK

pytestmark = pytest.mark.slow
SCRIPTS = REPOSITORY / ".github/scripts"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/credit-risk"
BASE_DIGEST = "sha256:" + "b" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

# The one call of the AWS CLI that the script makes, by boto3: the CLI itself is not among the project's packages.
AWS = f"""#!{sys.executable}
import json, sys, boto3
assert sys.argv[1:3] == ["ecr", "batch-get-image"], sys.argv
value = lambda name: sys.argv[sys.argv.index(name) + 1]
answer = boto3.client("ecr").batch_get_image(
    repositoryName=value("--repository-name"), imageIds=[{{"imageTag": value("--image-ids").partition("=")[2]}}])
print(json.dumps({{key: answer[key] for key in ("images", "failures")}}))
"""
DOCKER = f"""#!{sys.executable}
import json, os, sys
if sys.argv[2] == "imagetools":
    print("{BASE_DIGEST}")
else:
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(json.dumps(sys.argv) + "\\n")
    if "operator" in os.environ.get("BROKEN", "") and "images/operator/Dockerfile" in sys.argv:
        sys.exit("boom")
    with open(sys.argv[sys.argv.index("--metadata-file") + 1], "w") as file:
        json.dump({{"containerimage.digest": "sha256:" + "c" * 64}}, file)
"""


@pytest.fixture
def programs(tmp_path: Path, moto: str) -> dict[str, str]:
    """An environment with stand-ins for docker and the AWS CLI, and the four repositories in moto."""
    for name, text in {"aws": AWS, "docker": DOCKER}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    ecr = client("ecr", moto)
    for repository in ecr.describe_repositories()["repositories"]:
        ecr.delete_repository(repositoryName=repository["repositoryName"], force=True)
    for image in STACK:
        ecr.create_repository(repositoryName=f"credit-risk/{image.name}", imageTagMutability="IMMUTABLE")
    (tmp_path / "calls").touch()
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {**os.environ, **credentials(moto), "PATH": path, "CALLS": str(tmp_path / "calls")}


def push_images(tmp_path: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "images.py"), "--registry", REGISTRY, "--out", str(tmp_path / "images.json"),
         *options],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip


def builds(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_an_image_that_ecr_has_is_not_built_again(tmp_path: Path, programs: dict[str, str], moto: str) -> None:
    first = STACK[0]
    tag = first.content_hash(f"docker.io/library/python@{BASE_DIGEST}")
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {"digest": "sha256:" + "d" * 64, "size": 1}}
    )
    pushed = client("ecr", moto).put_image(
        repositoryName=f"credit-risk/{first.name}", imageManifest=manifest, imageTag=tag
    )  # fmt: skip
    result = push_images(tmp_path, programs)
    assert result.returncode == 0, result.stderr
    images = json.loads((tmp_path / "images.json").read_text())
    assert images[first.name]["digest"] == pushed["image"]["imageId"]["imageDigest"]
    assert {call[call.index("--file") + 1] for call in builds(tmp_path)} == {i.dockerfile for i in STACK[1:]}
    assert set(images) == {"api", "training", "mlflow", "operator"}


def test_images_carry_provenance_and_bill_of_materials(tmp_path: Path, programs: dict[str, str]) -> None:
    assert push_images(tmp_path, programs, "--tag", "1.2.3", "--platform", "linux/amd64,linux/arm64").returncode == 0
    for call in builds(tmp_path):
        assert {"--push", "--provenance=mode=max", "--sbom=true", "linux/amd64,linux/arm64"} <= set(call)
        assert call[call.index("--tag") + 1].endswith(":1.2.3")


def test_a_failed_build_ends_the_push_and_names_the_image(tmp_path: Path, programs: dict[str, str]) -> None:
    result = push_images(tmp_path, {**programs, "BROKEN": "operator"})
    assert result.returncode == 1
    assert f"{REGISTRY}/operator:" in result.stderr
    assert not (tmp_path / "images.json").exists()


class _Github(BaseHTTPRequestHandler):
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012 - one server per test

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_800_000_000}).encode()).decode().rstrip("=")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"value": f"header.{claims}.signature"}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def github() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Github)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Github.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/token?api-version=2"
    server.shutdown()
    server.server_close()


def test_a_job_logs_in_to_kubernetes_with_its_own_token(github: str) -> None:
    result = subprocess.run(
        [str(SCRIPTS / "github_token.py"), "credit-risk"],
        env={**os.environ, "ACTIONS_ID_TOKEN_REQUEST_URL": github, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    credential = json.loads(result.stdout)
    assert credential["kind"] == "ExecCredential"
    assert credential["status"]["token"].startswith("header.")
    assert credential["status"]["expirationTimestamp"] == "2027-01-15T08:00:00Z"
    assert _Github.asked == [("/token?api-version=2&audience=credit-risk", "Bearer job")]
