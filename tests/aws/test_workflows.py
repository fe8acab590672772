"""What GitHub is given to run: pinned, with no more rights than it needs, and nothing of a stranger's in a shell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY

FILES = sorted((REPOSITORY / ".github/workflows").glob("*.yaml"))
# What each job may do beyond reading the code.
RIGHTS = {"deploy": {"id-token"}, "release": {"packages", "id-token"}}


def document(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text()))


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in document(file)["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def workflow(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_actions_are_pinned_by_commit_with_the_version_beside_it(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_one_action_has_one_version_everywhere() -> None:
    used = {line for file in FILES for line in re.findall(r"uses: (.*)", file.read_text())}
    assert len(used) == len({line.partition("@")[0] for line in used})


def test_a_job_may_do_what_it_needs_and_nothing_else(workflow: Path) -> None:
    assert document(workflow)["permissions"] == {"contents": "read"}
    for name, job in document(workflow)["jobs"].items():
        rights = {right: "read" if right == "contents" else "write" for right in {"contents", *RIGHTS.get(name, ())}}
        assert job.get("permissions", {"contents": "read"}) == rights, name
        assert job["timeout-minutes"] <= 180, name


def test_runs_of_one_kind_do_not_collide(workflow: Path) -> None:
    group = document(workflow)["concurrency"]
    # A run of the tests may be cut off by the next one; an upgrade or a release may not.
    assert group["cancel-in-progress"] is (workflow.name == "ci.yaml")


def test_the_checkout_leaves_no_token_behind(workflow: Path) -> None:
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_secret_is_kept_at_github_and_no_expression_stands_in_a_shell(workflow: Path) -> None:
    assert "secrets." not in workflow.read_text()
    assert "pull_request_target" not in workflow.read_text()
    # An expression in a script's text is a way for a branch's name to become a command.
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


def test_scripts_that_are_called_exist_and_can_be_run(workflow: Path) -> None:
    for name in re.findall(r"\.github/scripts/[\w.]+|charts/build\.sh", workflow.read_text()):
        assert (REPOSITORY / name).stat().st_mode & 0o111, name


def test_the_k3s_and_kind_jobs_try_supported_kubernetes_versions() -> None:
    nodes = document(REPOSITORY / ".github/workflows/ci.yaml")["jobs"]["kind"]["strategy"]["matrix"]["node"]
    assert len({re.findall(r"v1\.\d+", node)[0] for node in nodes}) == 3
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", node) for node in nodes)
