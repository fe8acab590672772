"""CI's scripts without GitHub: which images are pushed, and how a job logs in to Kubernetes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aws.machine import program
from aws.programs import aws_cli
from aws.stand_ins import github_tokens
from aws.terraform import ACCOUNT, REGION, client, credentials
from conftest import REPOSITORY
from localcluster.images import ALL

pytestmark = [pytest.mark.slow, pytest.mark.terraform]
SCRIPTS = REPOSITORY / ".github/scripts"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/credit-risk"
BASE_DIGEST = "sha256:" + "b" * 64
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

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
    """An environment with a stand-in for docker, the real AWS CLI, and the five repositories in moto."""
    aws_cli(tmp_path)
    program(tmp_path / "docker", DOCKER)
    ecr = client("ecr", moto)
    for repository in ecr.describe_repositories()["repositories"]:
        ecr.delete_repository(repositoryName=repository["repositoryName"], force=True)
    for image in ALL:
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


def test_an_image_that_ecr_already_has_is_not_rebuilt(tmp_path: Path, programs: dict[str, str], moto: str) -> None:
    first = ALL[0]
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
    assert {call[call.index("--file") + 1] for call in builds(tmp_path)} == {i.dockerfile for i in ALL[1:]}
    assert set(images) == {"api", "training", "mlflow", "operator", "decisions"}


def test_images_have_provenance_and_a_bill_of_materials_for_both_platforms(
    tmp_path: Path, programs: dict[str, str]
) -> None:
    assert push_images(tmp_path, programs, "--tag", "1.2.3", "--platform", "linux/amd64,linux/arm64").returncode == 0
    for call in builds(tmp_path):
        assert {"--push", "--provenance=mode=max", "--sbom=true"} <= set(call)
        assert call[call.index("--tag") + 1].endswith(":1.2.3")
    built = {
        call[call.index("--file") + 1].split("/")[1]: call[call.index("--platform") + 1] for call in builds(tmp_path)
    }
    both = "linux/amd64,linux/arm64"
    assert built == {"api": both, "mlflow": both, "operator": both, "decisions": both, "training": "linux/amd64"}


def test_an_image_that_supports_no_requested_platform_is_named(tmp_path: Path, programs: dict[str, str]) -> None:
    result = push_images(tmp_path, programs, "--tag", "1.2.3", "--platform", "linux/arm64")
    assert result.returncode == 1
    assert "the image training can be built only for linux/amd64" in result.stderr


MACHINES = {"linux/amd64": "x86_64-manylinux_2_36", "linux/arm64": "aarch64-manylinux_2_36"}


def resolve_wheels(lock: str, platform: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Resolve a lock to wheels with the locked hashes, as an image build would, without installing them."""
    links = os.environ.get("PIP_FIND_LINKS")
    return subprocess.run(
        [str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--only-binary", ":all:",
         "--require-hashes", "--python", sys.executable, "--python-version", "3.11",
         "--python-platform", MACHINES[platform], "--target", str(tmp_path / "nowhere"),
         *(["--find-links", links] if links else []), "--requirement", f"requirements/{lock}.txt"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("platform", MACHINES)
@pytest.mark.parametrize("lock", ["build", "api", "mlflow", "operator", "decisions", "training"])
def test_every_locked_package_has_a_wheel_for_each_release_platform(tmp_path: Path, lock: str, platform: str) -> None:
    result = resolve_wheels(lock, platform, tmp_path)
    if (lock, platform) == ("training", "linux/arm64"):
        # Once this wheel exists, images.py no longer needs its exception.
        assert "torch==2.13.0+cpu has no wheels with a matching platform tag" in " ".join(result.stderr.split())
    else:
        assert result.returncode == 0, result.stderr


def test_a_failed_build_aborts_the_push_and_names_the_image(tmp_path: Path, programs: dict[str, str]) -> None:
    result = push_images(tmp_path, {**programs, "BROKEN": "operator"})
    assert result.returncode == 1
    assert f"{REGISTRY}/operator:" in result.stderr
    assert not (tmp_path / "images.json").exists()


def test_a_job_logs_in_to_kubernetes_with_its_own_token() -> None:
    with github_tokens() as github:
        result = subprocess.run(
            [str(SCRIPTS / "github_token.py"), "credit-risk"],
            env={**os.environ, "ACTIONS_ID_TOKEN_REQUEST_URL": github.url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    credential = json.loads(result.stdout)
    assert credential["kind"] == "ExecCredential"
    assert credential["status"]["token"].startswith("header.")
    assert credential["status"]["expirationTimestamp"] == "2027-01-15T08:00:00Z"
    assert github.requests == [("/token?api-version=2&audience=credit-risk", "Bearer job")]
