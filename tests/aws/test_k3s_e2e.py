"""k3s_e2e.sh, which installs the stack on k3s in CI, with stand-ins for k3s, Docker, helm, and kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aws.machine import program
from aws.stand_ins import HELM, KUBECTL, RECORD, Cluster, cluster_with_tls
from conftest import REPOSITORY

pytestmark = pytest.mark.terraform
CURL = (
    RECORD
    + """
import hashlib
if any("releases/download" in word for word in sys.argv):
    open("k3s", "w").write("a k3s")
    digest = hashlib.sha256(os.environ.get("RELEASED", "a k3s").encode()).hexdigest()
    open("sha256sum-amd64.txt", "w").write(f"{digest}  k3s\\n")
elif os.environ.get("BROKEN") == "traefik":
    sys.exit(7)
"""
)
# What the script would do as root is recorded and not done.
SUDO = (
    RECORD
    + """
if "import" in sys.argv:
    assert sys.stdin.read(), "an empty image"
"""
)
DOCKER = (
    RECORD
    + """
if sys.argv[1] == "save":
    print("an image")
"""
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A fake cluster that serves the scoring service."""
    with cluster_with_tls(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def run(tmp_path: Path, cluster: Cluster, **changed: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run the script in a working copy; return the result and every call of a stand-in, in order."""
    (tmp_path / "infra/aws").mkdir(parents=True)
    for name in (".github", "charts", "manifests", "infra/aws/variables.tf"):
        subprocess.run(["cp", "-r", str(REPOSITORY / name), str(tmp_path / name)], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "calls").touch()
    for name, text in {"curl": CURL, "sudo": SUDO, "docker": DOCKER, "helm": HELM, "kubectl": KUBECTL}.items():
        program(tmp_path / "bin" / name, text)
    result = subprocess.run(
        [str(tmp_path / ".github/scripts/k3s_e2e.sh")],
        env={**os.environ, "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
             "CALLS": str(tmp_path / "calls"), "RUNNER_TEMP": str(tmp_path),
             "SERVICE_PORT": str(cluster.service_port), **changed},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return result, [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def test_k3s_gets_the_manifests_of_aws_then_the_images_then_cis_own_deploy(tmp_path: Path, cluster: Cluster) -> None:
    result, calls = run(tmp_path, cluster)
    assert result.returncode == 0, result.stdout + result.stderr
    commands = [" ".join(call) for call in calls]
    steps = [
        "sudo install -m 755",
        "sudo cp manifests/k3s-",
        "sudo sh -c k3s server",
        "kubectl get --raw /readyz",
        "docker build",
        "sudo k3s ctr images import -",
        "helm upgrade --install",
        "kubectl --namespace kube-system",
        "curl --fail --silent --show-error --insecure https://127.0.0.1:30443/",
    ]
    places = [next(at for at, call in enumerate(commands) if call.startswith(step)) for step in steps]
    assert places == sorted(places), commands
    (download,) = [call for call in calls if call[0] == "curl" and any("releases" in word for word in call)]
    (version,) = {word.split("/")[-2] for word in download if word.endswith("/k3s")}
    assert version.replace("%2B", "+") in (REPOSITORY / "infra/aws/variables.tf").read_text()
    (upgrade,) = [call for call in calls if call[:2] == ["helm", "upgrade"]]
    for image in ("api", "training", "mlflow", "operator", "decisions"):
        assert f"--set-string={image}.image.repository=localhost/credit-risk/{image}" in upgrade
        assert f"docker save localhost/credit-risk/{image}:ci" in commands
    assert "a loan scores 0.2500" in result.stdout


def test_a_k3s_with_the_wrong_hash_is_not_installed(tmp_path: Path, cluster: Cluster) -> None:
    result, calls = run(tmp_path, cluster, RELEASED="something else")
    assert result.returncode != 0
    assert not [call for call in calls if call[0] == "sudo"]


def test_a_traefik_that_does_not_answer_fails_the_run(tmp_path: Path, cluster: Cluster) -> None:
    result, _ = run(tmp_path, cluster, BROKEN="traefik")
    assert result.returncode == 7
