"""What a release publishes: charts to a real OCI registry on loopback, images, and signatures; and the pinned kind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aws.machine import program
from aws.programs import docker_registry
from aws.stand_ins import RECORD
from charts.rendering import helm
from conftest import REPOSITORY
from environments import installed

pytestmark = pytest.mark.terraform
SCRIPTS = REPOSITORY / ".github/scripts"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry, Debian's package of Distribution."""
    folder = tmp_path_factory.mktemp("registry")
    with docker_registry(folder) as address:
        yield address


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working copy, because the scripts put dependencies into the charts' folders."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("charts", ".github"):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(folder)], check=True)
    return folder


def calls(folder: Path, name: str) -> list[list[str]]:
    found = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    return [call[1:] for call in found if call[0] == name]


def publish(work: Path, tmp_path: Path, registry: str, version: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the real helm, which accepts a registry without TLS only if told to."""
    program(tmp_path / "helm", f'#!/bin/bash\n[ "$1" = push ] && set -- "$@" --plain-http\nexec {helm()} "$@"\n')
    program(tmp_path / "cosign", RECORD)
    (tmp_path / "calls").touch()
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    return subprocess.run(
        [str(work / ".github/scripts/publish_charts.sh"), f"oci://{registry}/charts", version],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_chart_is_pushed_with_its_dependencies_and_signed_by_digest(
    work: Path, tmp_path: Path, registry: str
) -> None:
    result = publish(work, tmp_path, registry, "1.2.3")
    assert result.returncode == 0, result.stdout + result.stderr
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    request = urllib.request.Request(f"http://{registry}/v2/charts/credit-risk/manifests/1.2.3", headers=accept)
    with urllib.request.urlopen(request) as answer:
        digest = "sha256:" + hashlib.sha256(answer.read()).hexdigest()
    assert calls(tmp_path, "cosign") == [["sign", "--yes", f"{registry}/charts/credit-risk@{digest}"]]
    subprocess.run(
        [helm(), "pull", f"oci://{registry}/charts/credit-risk", "--version", "1.2.3", "--plain-http", "--untar"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    chart = yaml.safe_load((tmp_path / "credit-risk/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == ("1.2.3", "1.2.3")
    rendered = subprocess.run(
        [helm(), "template", "it", "credit-risk", "--values", "credit-risk/values-k3s.yaml"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert rendered.returncode == 0, rendered.stderr
    assert "name: scoring" in rendered.stdout


@pytest.mark.parametrize(("address", "version"), [("127.0.0.1:9", "1.2.4"), (None, "not-a-version")])
def test_a_chart_that_was_not_pushed_is_not_signed(
    work: Path, tmp_path: Path, registry: str, address: str | None, version: str
) -> None:
    result = publish(work, tmp_path, address or registry, version)
    assert result.returncode != 0
    assert calls(tmp_path, "cosign") == []


DOCKER = (
    RECORD
    + """
import hashlib
value = lambda name: sys.argv[sys.argv.index(name) + 1]
if sys.argv[1] == "login":
    assert sys.stdin.read() == "the token"
elif sys.argv[2] == "imagetools":
    print("sha256:" + "b" * 64)
else:
    digest = "sha256:" + hashlib.sha256(value("--tag").encode()).hexdigest()
    with open(value("--metadata-file"), "w") as file:
        json.dump({"containerimage.digest": digest}, file)
"""
)


def test_a_tag_releases_all_images_and_signs_each_by_digest(tmp_path: Path) -> None:
    installed("jq", packages=["jq"])
    for name, text in {"docker": DOCKER, "helm": RECORD, "cosign": RECORD}.items():
        program(tmp_path / name, text)
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/release.yaml").read_text())
    scripts = {step["name"]: step["run"] for step in workflow["jobs"]["release"]["steps"] if "run" in step}
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
                   "RUNNER_TEMP": str(tmp_path), "OWNER": "Acme", "ACTOR": "somebody", "TAG": "v1.2.3",
                   "TOKEN": "the token"}  # fmt: skip
    output = ""
    for name in ("Log in to the registry", "Images, with provenance and bill of materials, signed"):
        result = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", scripts[name]],
            env=environment, cwd=REPOSITORY, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        output += result.stdout + result.stderr
    assert "the token" not in output
    assert calls(tmp_path, "helm") == [["registry", "login", "ghcr.io", "--username", "somebody", "--password-stdin"]]
    names = [f"ghcr.io/acme/credit-risk/{image}" for image in ("api", "training", "mlflow", "operator", "decisions")]
    signed = {call[-1] for call in calls(tmp_path, "cosign")}
    assert signed == {f"{name}@sha256:{hashlib.sha256(f'{name}:1.2.3'.encode()).hexdigest()}" for name in names}


def test_kind_is_installed_only_if_its_hash_is_the_pinned_one(tmp_path: Path) -> None:
    script = (SCRIPTS / "install_kind.sh").read_text()
    (pinned,) = re.findall(r"[0-9a-f]{64}", script)
    (tmp_path / "download").write_bytes(b"a kind")
    program(
        tmp_path / "curl",
        '#!/bin/bash\nwhile [ "$1" != --output ]; do shift; done\ncp "$(dirname "$0")/download" "$2"\n',
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    refused = subprocess.run([str(SCRIPTS / "install_kind.sh")], env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "computed checksum did NOT match" in refused.stderr
    assert refused.stdout == ""
    program(tmp_path / "install.sh", script.replace(pinned, hashlib.sha256(b"a kind").hexdigest()))
    taken = subprocess.run([str(tmp_path / "install.sh")], env=environment, capture_output=True, text=True)
    assert taken.returncode == 0, taken.stderr
    assert os.access(Path(taken.stdout.strip()) / "kind", os.X_OK)
