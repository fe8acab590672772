"""The bulk chart: a Job whose pods run bulk scoring with the values' options, on old and new clusters."""

from __future__ import annotations

from typing import Any

import pytest

from charts.rendering import Document, containers, environment, of_kind, pod_spec, pod_template, render, run_helm
from creditrisk_scoring import command
from creditrisk_scoring.errors import INCOMPLETE, UsageError
from scorer.model.scorecard import Scorecard

DEFAULT, OPTIONS, STACK = (
    "bulk/ci/default-values.yaml",
    "bulk/ci/options-values.yaml",
    "credit-risk/ci/bulk-values.yaml",
)
GIVEN = {"enabled": "--set=enabled=true", "input": "--set=input=s3://data/in", "output": "--set=output=s3://data/out",
         "model.version": "--set-string=model.version=1"}  # fmt: skip


def job(scenario: str, *options: str) -> Document:
    """Return the Job of bulk scoring."""
    (found,) = (
        one for one in of_kind(render(scenario, *options), "Job") if one["metadata"]["name"].startswith("bulk-")
    )
    return found


def container(scenario: str, *options: str) -> Document:
    (found,) = containers(pod_template(job(scenario, *options)))
    return found


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        (
            DEFAULT,
            {"source": "s3://data/book", "target": "s3://data/scores", "name": "credit-risk", "version": "1",
             "reasons": 0, "where": "", "keep": None, "shard_rows": 1_000_000, "scorecard": Scorecard(600, 50, 20),
             "lease": 60.0, "registry": "http://mlflow:5000", "worker": "$(POD_NAME)"},
        ),
        (
            OPTIONS,
            {"source": "s3://example-bank/book/2026-11", "name": "cards", "version": "12", "reasons": 4,
             "where": "branch = 'Leeds' AND loan_amount > 10000", "keep": "account,branch", "shard_rows": 5_000_000,
             "scorecard": Scorecard(500, 20, 20), "lease": 120.0},
        ),
    ],
)  # fmt: skip
def test_the_program_reads_the_options_that_the_chart_passes(scenario: str, expected: dict[str, Any]) -> None:
    found = container(scenario)
    assert found["command"] == ["python", "-m", "creditrisk_scoring"]
    assert found["args"][0] == "score"
    read = vars(command.options_parser().parse_args(found["args"][1:]))
    assert {name: read[name] for name in expected} == expected
    assert found["ports"] == [{"name": "metrics", "containerPort": read["metrics_port"], "protocol": "TCP"}]
    assert environment(found)["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}


@pytest.mark.parametrize(
    ("version", "indexed", "policy"), [("1.20", False, False), ("1.22", True, False), ("1.33", True, True)]
)
def test_clusters_get_indexed_completion_and_the_failure_policy_that_they_have(
    version: str, *, indexed: bool, policy: bool
) -> None:
    spec = job(DEFAULT, "--kube-version", version)["spec"]
    assert (spec.get("completionMode") == "Indexed", "podFailurePolicy" in spec) == (indexed, policy)
    # Without Indexed completion as with it, each of so many pods has to succeed, and is replaced until it does.
    assert (spec["completions"], spec["parallelism"], spec["template"]["spec"]["restartPolicy"]) == (2, 2, "Never")
    for rule in spec.get("podFailurePolicy", {}).get("rules", []):
        if codes := rule.get("onExitCodes"):
            # Another pod would end in the same way.
            assert (codes["containerName"], codes["values"]) == ("bulk", [UsageError.exit_code, INCOMPLETE])


def test_a_pod_gets_600_mebibytes_and_no_token_of_the_cluster() -> None:
    found = container(DEFAULT)
    assert found["resources"] == {"requests": {"cpu": "500m", "memory": "600Mi"}, "limits": {"memory": "600Mi"}}
    documents = render(DEFAULT)
    assert not {one["kind"] for one in documents} & {"Role", "RoleBinding", "ClusterRole", "ServiceAccount"}
    assert pod_spec(job(DEFAULT))["automountServiceAccountToken"] is False
    assert pod_spec(job(OPTIONS))["serviceAccountName"] == "bulk"
    assert environment(container(OPTIONS))["AWS_ROLE_ARN"] == "arn:aws:iam::123456789012:role/bulk"


def test_the_job_is_another_one_exactly_if_its_content_is() -> None:
    def name(*options: str) -> str:
        return str(job(DEFAULT, *options)["metadata"]["name"])

    assert name() == name("--set=pods=2")
    changed = ("--set=pods=3", "--set=reasons=4", "--set-string=where=income > 1", "--set-string=run=again",
               "--set=input=s3://data/other")  # fmt: skip
    assert len({name(), *map(name, changed)}) == 6


@pytest.mark.parametrize("missing", sorted({*GIVEN} - {"enabled"}))
def test_what_has_no_default_is_required(missing: str) -> None:
    given = (option for name, option in GIVEN.items() if name != missing)
    result = run_helm("template", "release", "bulk", *given)
    assert result.returncode != 0
    assert f"{missing} is required" in result.stderr


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--set=input=/data/book", "input"),
        ("--set-string=model.version=latest", "model/version"),
        ("--set=pods=0", "pods"),
        ("--set=leaseSeconds=3", "leaseSeconds"),
        ("--set=keep={a,b\\,c}", "keep"),
        ("--set-string=reasons=four", "reasons"),
    ],
)
def test_values_that_cannot_be_are_rejected(option: str, reason: str) -> None:
    assert run_helm("template", "release", "bulk", *GIVEN.values()).returncode == 0
    result = run_helm("template", "release", "bulk", *GIVEN.values(), option)
    assert result.returncode != 0
    assert f"at '/{reason}" in result.stderr


def test_the_stack_has_no_bulk_scoring_unless_it_is_enabled() -> None:
    assert not [
        one for one in of_kind(render("credit-risk/ci/default-values.yaml"), "Job") if "bulk" in str(one["metadata"])
    ]
    policies = {
        policy["metadata"]["name"]: policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
        for policy in of_kind(render(STACK), "NetworkPolicy")
        if policy["metadata"]["name"].endswith("-bulk")
    }
    expected = {"app.kubernetes.io/name": "bulk", "app.kubernetes.io/instance": "release"}
    assert policies == {"mlflow-bulk": expected, "s3-bulk": expected}
    off = [f"--set={chart}.networkPolicy.enabled=false" for chart in ("minio", "mlflow", "bulk")]
    assert not [one for one in of_kind(render(STACK, *off), "NetworkPolicy") if "bulk" in one["metadata"]["name"]]


def test_points_of_bulk_scoring_are_those_of_the_service() -> None:
    result = run_helm("template", "release", "credit-risk", "--values", STACK, "--set=bulk.scorecard.basePoints=500")
    assert result.returncode != 0
    assert (
        "api.scorecard.basePoints is 600, bulk.scorecard.basePoints is 500: bulk scoring would compute other"
        in result.stderr
    )
