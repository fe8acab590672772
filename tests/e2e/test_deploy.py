"""CI's deploy on a real cluster: upgrades that serve, rollouts that it waits for, and upgrades that it rolls back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from conftest import REPOSITORY
from e2e.ci_access import connected, deployers, node_registry
from e2e.model_versions import Files, VersionPublisher, corrupt, download_production, good
from e2e.registry_client import registry_client
from localcluster.console import wait_for
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import RELEASE, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def deploy(
    stack: Stack, folder: Path, image: dict[str, str], *options: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script as the workflow does: with the release's own values and one new image."""
    values = folder / "values.yaml"
    values.write_text(helm(stack, "get", "values", RELEASE, "--output", "yaml"))
    images = folder / "images.json"
    images.write_text(json.dumps({"api": image}))
    return subprocess.run(
        [sys.executable, str(REPOSITORY / ".github/scripts/deploy.py"), "--namespace", stack.namespace,
         "--images", str(images), "--values", str(values), *options],
        cwd=REPOSITORY,
        env={**(environment or stack.environment()), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip


def helm(stack: Stack, *arguments: str) -> str:
    command = [str(stack.cluster.paths.tools / "helm"), *arguments, "--namespace", stack.namespace]
    return subprocess.run(command, env=stack.environment(), capture_output=True, text=True, check=True).stdout


def running_image(stack: Stack) -> dict[str, str]:
    """Return repository and digest or tag of the scoring Deployment's image."""
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    image = stack.kubectl("get", "deployment", "scoring", "-o", path)
    repository, digest, by_digest = image.partition("@")
    if digest:
        return {"repository": repository, "digest": by_digest}
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}


def with_another_tag(stack: Stack, image: dict[str, str], tag: str) -> dict[str, str]:
    """Give the node's copy of an image a second tag, as a push would."""
    ctr = ["ctr", "--namespace", "k8s.io", "images", "tag", "--force"]
    if isinstance(stack.cluster, EmbeddedCluster):
        socket = next(stack.cluster.paths.state.rglob("containerd.sock"))
        program = next((stack.cluster.paths.cache).glob("daemons-*/usr/bin/ctr"))
        ctr = [str(program), "--address", str(socket), *ctr[1:]]
    else:
        ctr = ["docker", "exec", "credit-risk-control-plane", *ctr]
    repository = image["repository"]
    subprocess.run([*ctr, f"{repository}:{image['tag']}", f"{repository}:{tag}"], check=True, capture_output=True)
    return {"repository": repository, "tag": tag}


def revisions(stack: Stack) -> list[dict[str, Any]]:
    return list(json.loads(helm(stack, "history", RELEASE, "--output", "json")))


@pytest.fixture(scope="module", autouse=True)
def _restored_release(stack: Stack) -> Iterator[None]:
    """Roll the release back, after all tests, to the revision that it had before them."""
    revision = revisions(stack)[-1]["revision"]
    yield
    helm(stack, "rollback", RELEASE, str(revision))
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")


def test_a_new_image_is_rolled_out_and_scored(stack: Stack, tmp_path: Path) -> None:
    old = running_image(stack)
    new = with_another_tag(stack, old, f"{old['tag']}-next")
    result = deploy(stack, tmp_path, new)
    assert result.returncode == 0, result.stdout + result.stderr
    assert running_image(stack) == new
    summary = (tmp_path / "summary.md").read_text()
    assert "## Deployed" in summary
    assert "a loan scores 0." in summary
    assert new["tag"] in summary


def test_an_image_that_cannot_be_pulled_is_rolled_back_while_the_old_pods_serve(stack: Stack, tmp_path: Path) -> None:
    image = running_image(stack)
    before = revisions(stack)[-1]["revision"]
    result = deploy(stack, tmp_path, {**image, "tag": "never-pushed"}, "--timeout=30")
    assert result.returncode == 1, result.stdout + result.stderr
    summary = (tmp_path / "summary.md").read_text()
    assert "## Deploy failed" in summary
    assert "scoring did not roll out" in summary
    assert "ImagePull" in summary
    assert f"Rolled back to revision {before}" in summary
    assert running_image(stack) == image
    last = revisions(stack)[-1]
    assert (last["status"], last["description"]) == ("deployed", f"Rollback to {before}")
    assert stack.post("/v1/score", stack.get("/v1/model")["contract"]["reference_applicant"])["decision"]


PROMOTION = {
    "apiVersion": "creditrisk.io/v1alpha1",
    "kind": "ModelPromotion",
    "metadata": {"name": "deployed"},
    "spec": {
        "model": {"name": "credit-risk", "alias": "production"},
        "steps": [{"weight": 50, "duration": "20s"}],
        "analysis": {"interval": "2s", "onInsufficientData": "Proceed", "metrics": [{"type": "ErrorRate"}]},
        "progressDeadlineSeconds": 60,
    },
}


@dataclass
class Rollout:
    """A ModelPromotion of the release's own model, and the means to start a rollout."""

    stack: Stack
    client: MlflowClient
    publisher: VersionPublisher

    def begin(self, make: Callable[[Files], None]) -> str:
        """Register a version, move the Production pointer to it, and return its number once its rollout has begun."""
        version = self.publisher.register("credit-risk", make)
        self.client.set_registered_model_alias("credit-risk", "production", version)
        self.wait("the rollout has begun", lambda status: status.get("canaryVersion") == version)
        return version

    def wait(self, what: str, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the ModelPromotion's status is as wanted."""
        wait_for(
            what, lambda: None if reached(now := self.status()) else f"phase {now.get('phase')}", timeout_seconds=150
        )

    def status(self) -> dict[str, Any]:
        """Return the ModelPromotion's status."""
        return dict(json.loads(self.stack.kubectl("get", "modelpromotion", "deployed", "-o", "json")).get("status", {}))


@pytest.fixture
def rollout(stack: Stack, tmp_path: Path) -> Iterator[Rollout]:
    """A ModelPromotion at rest; at the end the first version serves again and the ModelPromotion is gone."""
    with registry_client(stack) as client:
        first = str(client.get_model_version_by_alias("credit-risk", "production").version)
        stack.kubectl("apply", "--filename", "-", text=json.dumps(PROMOTION))
        rollout = Rollout(stack, client, VersionPublisher(client, download_production(tmp_path / "champion"), tmp_path))
        rollout.wait("the promotion rests", lambda status: status.get("phase") == "Idle")
        yield rollout
        client.set_registered_model_alias("credit-risk", "production", first)
        at_once = json.dumps({"spec": {"skipAnalysis": True}})
        stack.kubectl("patch", "modelpromotion", "deployed", "--type=merge", "--patch", at_once)
        rollout.wait("the first version serves", lambda now: (now["stableVersion"], now["phase"]) == (first, "Idle"))
        stack.kubectl("delete", "modelpromotion", "deployed")


@pytest.mark.soak
def test_a_deploy_waits_for_the_rollout_in_progress(stack: Stack, rollout: Rollout, tmp_path: Path) -> None:
    image = running_image(stack)
    new = with_another_tag(stack, image, f"{image['tag']}-during")
    version = rollout.begin(good)
    result = deploy(stack, tmp_path, new)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (rollout.status()["phase"], rollout.status()["stableVersion"]) == ("Idle", version)
    assert f"by credit-risk version {version}" in (tmp_path / "summary.md").read_text()


@pytest.mark.soak
def test_a_deploy_during_which_a_rollout_fails_is_rolled_back(stack: Stack, rollout: Rollout, tmp_path: Path) -> None:
    image = running_image(stack)
    new = with_another_tag(stack, image, f"{image['tag']}-in-vain")
    rollout.begin(corrupt)
    result = deploy(stack, tmp_path, new)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "the promotion deployed failed: kubectl describe modelpromotion says why" in result.stdout
    assert "Rolled back to revision" in result.stdout
    assert running_image(stack) == image


@pytest.fixture
def node(stack: Stack) -> EmbeddedCluster:
    """The embedded node, on whose loopback address a container registry can listen."""
    if not isinstance(stack.cluster, EmbeddedCluster):
        pytest.skip("only the embedded node's network namespace can be entered")
    return stack.cluster


def test_ci_connects_as_a_deployer_and_rolls_out_an_image_by_digest(
    stack: Stack, node: EmbeddedCluster, tmp_path: Path
) -> None:
    old = running_image(stack)
    with (
        node_registry(node, tmp_path) as registry,
        deployers(stack),
        connected(stack, tmp_path) as job,
    ):
        new = registry.push(f"{old['repository']}:{old['tag']}", "credit-risk/api")
        result = deploy(stack, tmp_path, new, environment=job)
        assert result.returncode == 0, result.stdout + result.stderr
        assert running_image(stack) == new
        assert f"`{new['repository']}@{new['digest']}`" in (tmp_path / "summary.md").read_text()
        assert f"/v2/credit-risk/api/manifests/{new['digest']}" in registry.log.read_text()
        wrong = deploy(stack, tmp_path, new | {"digest": "sha256:" + "0" * 64}, "--timeout=30", environment=job)
        assert wrong.returncode == 1
        assert "Rolled back to revision" in wrong.stdout
        assert running_image(stack) == new
        assert {action: may(stack, job, *action) for action in PERMISSIONS} == PERMISSIONS


# Whether CI may do it, by verb, resource and further arguments of `kubectl auth can-i`.
PERMISSIONS: dict[tuple[str, ...], bool] = {
    ("patch", "deployments"): True,
    ("create", "secrets"): True,
    ("create", "pods", "--subresource=portforward"): True,
    ("patch", "modelpromotions.creditrisk.io"): True,
    ("patch", "customresourcedefinitions/modelpromotions.creditrisk.io"): True,
    ("patch", "customresourcedefinitions/others.example.org"): False,
    ("delete", "customresourcedefinitions/modelpromotions.creditrisk.io"): False,
    ("get", "secrets", "--namespace=kube-system"): False,
    ("create", "pods", "--namespace=default"): False,
    ("create", "clusterrolebindings"): False,
    ("get", "nodes"): False,
    ("create", "namespaces"): False,
    ("impersonate", "users"): False,
}


def may(stack: Stack, job: dict[str, str], *action: str) -> bool:
    command = [*stack.kubectl_command(), "auth", "can-i", *action]
    answer = subprocess.run(command, env=job, capture_output=True, text=True)
    assert answer.stdout.strip() in {"yes", "no"}, answer.stderr
    return answer.stdout.strip() == "yes"
