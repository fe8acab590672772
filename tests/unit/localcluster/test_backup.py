"""The Jobs of `make backup`, `make backups` and `make restore`, and how their ends are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from charts.rendering import containers, of_kind, pod_template, render, render_chart
from localcluster import backup
from localcluster.console import ClusterError
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.paths import Paths
from localcluster.ports import Ports
from localcluster.stack import Stack, _image_values


class Recorded(Stack):
    """A stack whose kubectl answers from `answers` and whose created objects are in `created`."""

    answers: dict[str, Any]
    created: list[dict[str, Any]]

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Answer `get KIND NAME` with an object, and `get KIND` with a list."""
        if arguments[0] == "create":
            self.created.append(json.loads(Path(arguments[-1]).read_text()))
            return ""
        answer = self.answers.get(" ".join(word for word in arguments[1:] if not word.startswith(("-", "job-name="))))
        return json.dumps(answer) if answer else ""


@pytest.fixture
def stack(tmp_path: Path) -> Recorded:
    """A stack with the chart's own CronJobs, whose Job is described by the tests."""
    paths = Paths(tmp_path / "cache", tmp_path / "state")
    found = Recorded(EmbeddedCluster(paths, Ports(8080, 5000, 6443)))
    jobs = of_kind(render("backup/ci/default-values.yaml", "--kube-version", "1.33"), "CronJob")
    object.__setattr__(found, "answers", {f"cronjob {job['metadata']['name']}": job for job in jobs})
    found.answers["jobs"] = {"items": []}
    object.__setattr__(found, "created", [])
    paths.tools.mkdir(parents=True)
    kubectl = paths.tools / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "log of $*"\n')
    kubectl.chmod(0o755)
    return found


def commands(job: dict[str, Any]) -> dict[str, list[str]]:
    pod = job["spec"]["template"]["spec"]
    return {c["name"]: c["command"] for c in (*pod.get("initContainers", []), *pod["containers"])}


def test_a_backup_is_a_job_of_the_releases_template_with_one_attempt(stack: Recorded) -> None:
    name = backup.back_up(stack)
    (job,) = stack.created
    assert job["metadata"]["name"] == name
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert list(commands(job)) == ["dump", "dump-decisions", "store"]
    assert job["spec"]["backoffLimit"] == 0
    # `helm upgrade` does not take it for its own.
    assert job["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "make"
    template = stack.answers["cronjob backup"]["spec"]["jobTemplate"]["spec"]
    assert job["spec"]["template"] == template["template"]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_restore_names_its_backup_and_the_form_of_its_report(stack: Recorded, as_json: bool) -> None:
    backup.restore(stack, "20261128T021700Z", as_json=as_json)
    (job,) = stack.created
    assert list(commands(job)) == ["fetch", "decisions", "database", "verify"]
    fetch, *_ = job["spec"]["template"]["spec"]["initContainers"]
    values = [variable["value"] for variable in fetch["env"] if variable["name"] == "BACKUP_FROM"]
    assert values == ["20261128T021700Z"]
    assert ("--json" in commands(job)["verify"]) is as_json


def test_the_list_of_backups_needs_no_database(stack: Recorded) -> None:
    backup.list_backups(stack)
    (job,) = stack.created
    assert commands(job) == {"list": ["python", "-m", "backup", "list"]}
    assert "podFailurePolicy" not in job["spec"]


def test_without_the_chart_the_error_says_how_to_get_it(stack: Recorded) -> None:
    del stack.answers["cronjob backup"]
    with pytest.raises(ClusterError, match=r"no CronJob backup: install the charts with backup\.enabled=true"):
        backup.back_up(stack)


@pytest.mark.parametrize("start", [backup.back_up, lambda stack: backup.restore(stack, "latest")])
def test_nothing_starts_while_a_backup_or_restore_is_running(stack: Recorded, start: Any) -> None:
    running = {"metadata": {"name": "backup-1"}, "status": {"active": 1}}
    ended = {"metadata": {"name": "backup-0"}, "status": {"succeeded": 1}}
    stack.answers["jobs"] = {"items": [ended, running]}
    with pytest.raises(ClusterError, match="backup-1 is still running"):
        start(stack)
    assert not stack.created


def state(name: str, code: int | None) -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {}} if code is None else {"terminated": {"exitCode": code}}}


def ended(stack: Recorded, condition: str, *states: dict[str, Any]) -> None:
    """Let the Job restore-1 have ended with a condition and the states of its pod's containers."""
    condition_of_job = {"type": condition, "status": "True", "message": "Job has reached the specified backoff limit"}
    stack.answers["job restore-1"] = {"status": {"conditions": [condition_of_job]}}
    status = {"initContainerStatuses": states[:-1], "containerStatuses": states[-1:]}
    stack.answers["pods"] = {"items": [{"metadata": {"name": "pod"}, "status": status}]}


def test_the_logs_of_all_containers_that_ran_are_printed_in_their_order(
    stack: Recorded, capfd: pytest.CaptureFixture[str]
) -> None:
    ended(stack, "Complete", state("fetch", 0), state("database", 0), state("verify", 0))
    backup.follow(stack, "restore-1")
    lines = capfd.readouterr().out.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["fetch", "database", "verify"]
    assert all("logs --follow pod" in line for line in lines)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ([("fetch", 3), ("database", None), ("verify", None)], "nothing was changed (container fetch, exit code 3)"),
        ([("fetch", 0), ("database", 1), ("verify", None)], "see the log above (container database, exit code 1)"),
        # psql's own exit codes mean something else.
        ([("fetch", 0), ("database", 3), ("verify", None)], "see the log above (container database, exit code 3)"),
        ([("fetch", 0), ("database", 0), ("verify", 4)], "do not match their digests (container verify, exit code 4)"),
        ([("fetch", None), ("database", None), ("verify", None)], "Job has reached the specified backoff limit"),
    ],
)  # fmt: skip
def test_a_failure_says_what_failed_and_whether_anything_changed(
    stack: Recorded, codes: list[tuple[str, int | None]], said: str
) -> None:
    ended(stack, "Failed", *(state(name, code) for name, code in codes))
    with pytest.raises(ClusterError) as error:
        backup.follow(stack, "restore-1")
    assert said in str(error.value)
    assert "restore-1 failed" in str(error.value)


def test_local_images_are_those_of_mlflow_and_postgres() -> None:
    images = {"mlflow": "localhost/credit-risk/mlflow:1", "postgres": "localhost/credit-risk/postgres:2"}
    documents = render_chart("credit-risk", *_image_values(images))
    found = {container["image"] for job in of_kind(documents, "CronJob") for container in containers(pod_template(job))}
    assert found == set(images.values())
