"""The workflows: pinned actions, least privilege, and no untrusted input in a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY

FILES = sorted((REPOSITORY / ".github/workflows").glob("*.yaml"))
# Each job's permissions besides reading the code.
PERMISSIONS = {"deploy": {"id-token"}, "release": {"packages", "id-token"}}


def document(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text()))


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in document(file)["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def workflow(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_actions_are_pinned_by_commit_with_the_version_in_a_comment(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_every_workflow_uses_the_same_version_of_an_action() -> None:
    used = {line for file in FILES for line in re.findall(r"uses: (.*)", file.read_text())}
    assert len(used) == len({line.partition("@")[0] for line in used})


def test_a_job_has_only_the_permissions_it_needs(workflow: Path) -> None:
    assert document(workflow)["permissions"] == {"contents": "read"}
    for name, job in document(workflow)["jobs"].items():
        extra = PERMISSIONS.get(name, set())
        expected = {"contents": "read", **dict.fromkeys(extra, "write")}
        assert job.get("permissions", {"contents": "read"}) == expected, name
        assert job["timeout-minutes"] <= 180, name


def test_only_ci_runs_are_canceled_by_newer_ones(workflow: Path) -> None:
    group = document(workflow)["concurrency"]
    # A newer run may cancel a test run, but not an upgrade or a release.
    assert group["cancel-in-progress"] is (workflow.name == "ci.yaml")


def test_the_checkout_does_not_persist_credentials(workflow: Path) -> None:
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_workflows_use_no_secrets_and_no_expressions_in_scripts(workflow: Path) -> None:
    assert "secrets." not in workflow.read_text()
    assert "pull_request_target" not in workflow.read_text()
    # An expression in a script would let a branch's name become a command.
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


def test_scripts_in_workflows_exist_and_are_executable(workflow: Path) -> None:
    for name in re.findall(r"\.github/scripts/[\w.]+|charts/build\.sh", workflow.read_text()):
        assert (REPOSITORY / name).stat().st_mode & 0o111, name


def test_the_kind_job_covers_three_kubernetes_versions_pinned_by_digest() -> None:
    nodes = document(REPOSITORY / ".github/workflows/ci.yaml")["jobs"]["kind"]["strategy"]["matrix"]["node"]
    assert len({re.findall(r"v1\.\d+", node)[0] for node in nodes}) == 3
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", node) for node in nodes)
