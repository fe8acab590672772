"""CI's deploy on a real cluster: an upgrade that serves, and one that does not and is taken back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import RELEASE, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def deploy(stack: Stack, folder: Path, image: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the workflow does: with the values that the release has, and one new image."""
    values = folder / "values.yaml"
    values.write_text(helm(stack, "get", "values", RELEASE, "--output", "yaml"))
    images = folder / "images.json"
    images.write_text(json.dumps({"api": image}))
    return subprocess.run(
        [sys.executable, str(REPOSITORY / ".github/scripts/deploy.py"), "--namespace", stack.namespace,
         "--images", str(images), "--values", str(values), *options],
        cwd=REPOSITORY,
        env={**stack.environment(), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip


def helm(stack: Stack, *arguments: str) -> str:
    command = [str(stack.cluster.paths.tools / "helm"), *arguments, "--namespace", stack.namespace]
    return subprocess.run(command, env=stack.environment(), capture_output=True, text=True, check=True).stdout


def running_image(stack: Stack) -> dict[str, str]:
    """Return repository and tag of the scoring Deployment's image."""
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    repository, _, tag = stack.kubectl("get", "deployment", "scoring", "-o", path).rpartition(":")
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
def _as_it_was(stack: Stack) -> Iterator[None]:
    """The release goes back to the revision that it had."""
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


def test_an_image_that_cannot_be_had_is_taken_back_and_no_request_fails(stack: Stack, tmp_path: Path) -> None:
    good = running_image(stack)
    before = revisions(stack)[-1]["revision"]
    result = deploy(stack, tmp_path, {**good, "tag": "never-pushed"}, "--timeout=30")
    assert result.returncode == 1, result.stdout + result.stderr
    summary = (tmp_path / "summary.md").read_text()
    assert "## Deploy failed" in summary
    assert "scoring did not roll out" in summary
    assert "ImagePull" in summary
    assert f"Rolled back to revision {before}" in summary
    assert running_image(stack) == good
    last = revisions(stack)[-1]
    assert (last["status"], last["description"]) == ("deployed", f"Rollback to {before}")
    assert stack.post("/v1/score", stack.get("/v1/model")["contract"]["reference_applicant"])["decision"]
