"""The backup chart: templates of Jobs that the backup program and its scripts can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backup.__main__ import main
from backup.repository import decisions_folder
from backup.settings import Retention, Settings, Store
from charts.rendering import (
    CHARTS,
    Document,
    containers,
    environment,
    of_kind,
    pod_spec,
    pod_template,
    render,
    run_helm,
)

SCRIPTS = CHARTS / "backup" / "files"


def cron_jobs(scenario: str, *options: str) -> dict[str, Document]:
    documents = render(f"backup/ci/{scenario}-values.yaml", *options)
    return {job["metadata"]["name"]: job for job in of_kind(documents, "CronJob")}


def named(job: Document) -> dict[str, Document]:
    """Return a CronJob's containers by name, in the order in which they run."""
    return {container["name"]: container for container in containers(pod_template(job))}


def settings(container: Document) -> Settings:
    """Return the settings that the backup program reads in a container; a Secret's value is its key."""
    variables = environment(container)
    return Settings.from_environment(
        {name: value if isinstance(value, str) else value["secretKeyRef"]["key"] for name, value in variables.items()}
    )


def test_a_dump_comes_before_the_artifacts_and_artifacts_come_back_before_the_database() -> None:
    jobs = cron_jobs("default")
    assert list(named(jobs["backup"])) == ["dump", "dump-decisions", "store"]
    assert list(named(jobs["restore"])) == ["fetch", "decisions", "database", "verify"]


@pytest.mark.parametrize(
    ("scenario", "schedule"), [("default", "17 2 * * *"), ("external", "0 */6 * * *"), ("manual", None)]
)
def test_backups_follow_the_schedule_and_restores_never_start_by_themselves(
    scenario: str, schedule: str | None
) -> None:
    jobs = cron_jobs(scenario)
    assert jobs["backup"]["spec"]["suspend"] is (schedule is None)
    if schedule:
        assert jobs["backup"]["spec"]["schedule"] == schedule
    assert jobs["backup"]["spec"]["concurrencyPolicy"] == "Forbid"
    assert jobs["restore"]["spec"]["suspend"] is True


@pytest.mark.parametrize(
    ("version", "api"), [("1.20", "batch/v1beta1"), ("1.21", "batch/v1"), ("1.25", "batch/v1"), ("1.33", "batch/v1")]
)
def test_clusters_get_the_api_version_and_the_failure_policy_that_they_have(version: str, api: str) -> None:
    for job in cron_jobs("default", "--kube-version", version).values():
        assert job["apiVersion"] == api
        spec = job["spec"]["jobTemplate"]["spec"]
        assert ("podFailurePolicy" in spec) is (version == "1.33")
        names = set(named(job))
        for rule in spec.get("podFailurePolicy", {}).get("rules", []):
            assert rule["onExitCodes"]["containerName"] in names


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (
            "default",
            {"artifact_bucket": "mlflow", "bucket": "backups", "prefix": "credit-risk", "store": None, "encryption": "",
             "retention": Retention(count=14, days=30), "allow_empty": False},
        ),
        (
            "external",
            {"bucket": "example-backups", "prefix": "lending/production", "encryption": "aws:kms",
             "kms_key_id": "arn:aws:kms:eu-central-1:123456789012:key/4711",
             "store": Store("https://s3.example.org", "eu-central-1", "access-key-id", "secret-access-key"),
             "retention": Retention(count=28, days=90)},
        ),
        (
            "manual",
            {"bucket": "mlflow", "prefix": "backups", "encryption": "AES256", "store": None, "allow_empty": True,
             "retention": Retention(count=3, days=0)},
        ),
    ],
)  # fmt: skip
def test_the_program_reads_the_settings_that_the_chart_passes(scenario: str, expected: dict[str, Any]) -> None:
    jobs = cron_jobs(scenario)
    for container in (*named(jobs["backup"]).values(), *named(jobs["restore"]).values()):
        if container["command"][0] == "python":
            found = settings(container)
            assert {name: getattr(found, name) for name in expected} == expected, container["name"]
            assert str(found.workspace) == "/workspace"


@pytest.mark.parametrize("scenario", ["default", "external"])
def test_every_command_of_the_jobs_exists(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    scripts = set()
    for job in cron_jobs(scenario).values():
        for container in named(job).values():
            if container["command"][0] == "python":
                assert container["command"][:3] == ["python", "-m", "backup"]
                with pytest.raises(SystemExit, match="0"):
                    main([*container["command"][3:], "--help"], {})
                assert container["command"][3] in capsys.readouterr().out
            else:
                scripts.add(container["command"][1].rpartition("/")[2])
    assert scripts == {"dump.sh", "restore.sh", "dump-decisions.sh", "restore-decisions.sh"}
    assert scripts < {file.name for file in SCRIPTS.iterdir()}


def test_pods_get_every_script_as_it_is_in_the_chart() -> None:
    (scripts,) = of_kind(render("backup/ci/default-values.yaml"), "ConfigMap")
    assert scripts["data"] == {file.name: file.read_text() for file in SCRIPTS.iterdir()}


def test_only_containers_that_need_a_credential_get_it() -> None:
    jobs = cron_jobs("external")
    database = {"dump", "database", "verify", "dump-decisions", "decisions"}
    for container in (*named(jobs["backup"]).values(), *named(jobs["restore"]).values()):
        variables = environment(container)
        assert ("PGPASSWORD" in variables) is (container["name"] in database)
        assert ("BACKUP_S3_SECRET_ACCESS_KEY" in variables) is (container["command"][0] == "python")


def test_the_decision_log_is_dumped_and_restored_by_its_owner_where_there_is_one() -> None:
    jobs = cron_jobs("default", "--set=global.decisions.database=lending,global.decisions.secret=our-roles")
    for container in (named(jobs["backup"])["dump-decisions"], named(jobs["restore"])["decisions"]):
        variables = environment(container)
        assert (variables["PGUSER"], variables["PGDATABASE"]) == ("decisions_owner", "lending")
        assert variables["WORKSPACE"] == f"/workspace/{decisions_folder(Path()).name}"
        assert variables["PGPASSWORD"] == {"secretKeyRef": {"name": "our-roles", "key": "owner", "optional": True}}


def test_the_pods_assume_the_role_of_backups_on_aws() -> None:
    for job in cron_jobs("external").values():
        assert pod_spec(job)["serviceAccountName"] == "backup"
        for container in named(job).values():
            if container["command"][0] == "python":
                assert environment(container)["AWS_ROLE_ARN"].endswith(":role/backup")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--set=retention.count=0", "/retention/count"),
        ("--set=destination.prefix=", "/destination/prefix"),
        ("--set=destination.sse=aes", "/destination/sse"),
        ("--set=schedule=nightly", "/schedule"),
        ("--set=destination.s3.endpoint=https://s3.example.org", "destination.s3.region is required"),
        ("--set=destination.s3.bucket=x", "'bucket' not allowed"),
    ],
)
def test_invalid_values_are_rejected_with_a_reason(option: str, reason: str) -> None:
    result = run_helm("template", "release", "backup", option)
    assert result.returncode != 0
    assert reason in result.stderr


def test_the_stack_has_backups_unless_they_are_disabled() -> None:
    def names(*options: str) -> set[str]:
        documents = render("credit-risk/ci/default-values.yaml", *options)
        return {job["metadata"]["name"] for job in of_kind(documents, "CronJob")}

    assert names() == {"backup", "restore"}
    assert names("--set=backup.enabled=false") == set()
