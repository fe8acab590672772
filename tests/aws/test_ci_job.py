"""deploy.yaml as GitHub would run it: its steps in order, with the real AWS CLI and what Terraform created.

Stand-ins replace what only GitHub, AWS's network, and a cluster have: the job's token, Session Manager's tunnel (here
to a TLS server on loopback), Docker, and helm and kubectl, which are real in tests/e2e/test_deploy.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from aws.conftest import Applied
from aws.machine import program
from aws.programs import aws_cli
from aws.stand_ins import DOCKER, HELM, KUBECTL, PLUGIN, Cluster, Github, cluster_with_tls, github_tokens
from aws.terraform import ACCOUNT, REGION, credentials
from conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.terraform]
WORKFLOW = yaml.safe_load((REPOSITORY / ".github/workflows/deploy.yaml").read_text())
STEPS = [step for step in WORKFLOW["jobs"]["deploy"]["steps"] if "run" in step]
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


@dataclass
class Job:
    """A job on a GitHub runner: its working copy, its variables, and what earlier steps left for later ones."""

    folder: Path
    variables: dict[str, str]
    environment: dict[str, str]
    output: dict[str, str] = field(default_factory=dict)
    groups: list[int] = field(default_factory=list)

    def step(self, name: str) -> int:
        """Run a step of the workflow verbatim and return its exit code."""
        (step,) = [step for step in STEPS if step["name"] == name]
        written = self.folder / "github_env"
        written.touch()
        kept = dict(line.split("=", 1) for line in written.read_text().splitlines())
        own = {key: self._filled(value) for key, value in step.get("env", {}).items()}
        process = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", self._filled(step["run"])],
            cwd=self.folder / "work", env=self.environment | kept | own, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.groups.append(process.pid)
        self.output[name], _ = process.communicate(timeout=120)
        return process.returncode

    def end(self) -> None:
        """Stop the processes that steps left running, as a runner does."""
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{\{ vars\.(\w+) \}\}", lambda match: self.variables[match[1]], text)

    def calls(self, name: str) -> list[list[str]]:
        """Return the arguments of each call of a stand-in."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The fake cluster at the other end of the tunnel."""
    with cluster_with_tls(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module")
def github() -> Iterator[Github]:
    """GitHub's token service."""
    with github_tokens() as made:
        yield made


@pytest.fixture(scope="module")
def job(applied: Applied, cluster: Cluster, github: Github, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A job in the GitHub environment, with the variables that Terraform printed, after all its steps."""
    folder = tmp_path_factory.mktemp("job")
    skipped = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "charts-*")
    shutil.copytree(REPOSITORY, folder / "work", ignore=skipped)
    (folder / "bin").mkdir()
    aws_cli(folder / "bin")
    for name, text in {"docker": DOCKER, "helm": HELM, "kubectl": KUBECTL, "session-manager-plugin": PLUGIN}.items():
        program(folder / "bin" / name, text)
    (folder / "calls").touch()
    (folder / "token").write_text("the job's token")
    variables = applied.outputs["github_variables"] | {"K3S_CA_URL": cluster.ca_url}
    environment = {
        **{key: value for key, value in credentials(applied.endpoint).items() if "KEY" not in key},
        # What configure-aws-credentials does with role-to-assume.
        "AWS_ROLE_ARN": variables["AWS_DEPLOY_ROLE"],
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "token"),
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHON": sys.executable,
        "CALLS": str(folder / "calls"),
        "ENDPOINT": applied.endpoint,
        "TUNNEL_TO": str(cluster.port),
        "SERVICE_PORT": str(cluster.service_port),
        "LOCAL_PORT": str(cluster.local_port),
        "RUNNER_TEMP": str(folder),
        "GITHUB_ENV": str(folder / "github_env"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "ACTIONS_ID_TOKEN_REQUEST_URL": github.url,
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job",
    }
    job = Job(folder, variables, environment)
    try:
        for step in STEPS:
            if step["name"] != "helm and kubectl":
                assert job.step(step["name"]) == 0, f"{step['name']}: {job.output[step['name']]}"
        yield job
    finally:
        job.end()


def test_terraform_outputs_every_variable_that_the_workflow_uses(applied: Applied) -> None:
    text = (REPOSITORY / ".github/workflows/deploy.yaml").read_text()
    used = set(re.findall(r"vars\.(\w+)", text)) - {"AWS_DEPLOY"}
    assert used <= set(applied.outputs["github_variables"])
    assert set(re.findall(r"secrets\.\w+", text)) == set()


def test_the_jobs_token_is_exchanged_for_the_deploy_role(job: Job) -> None:
    who = subprocess.run(
        ["aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"],
        env=job.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert who.stdout.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/credit-risk-deploy/")


def test_docker_logs_in_to_ecr_with_a_password_that_appears_in_no_log(job: Job) -> None:
    (login,) = [call for call in job.calls("docker") if call[0] == "login"]
    assert login == ["login", "--username", "AWS", "--password-stdin", REGISTRY]
    password = (job.folder / "password").read_text()
    assert password
    assert not [output for output in job.output.values() if password in output]


def test_all_images_are_pushed_to_ecr_and_deployed_by_digest(job: Job, applied: Applied) -> None:
    images = json.loads((job.folder / "images.json").read_text())
    assert set(images) == {"api", "training", "mlflow", "operator", "decisions"}
    (upgrade,) = [call for call in job.calls("helm") if call[0] == "upgrade"]
    for name, image in images.items():
        pushed = applied.client("ecr").describe_images(repositoryName=f"credit-risk/{name}")["imageDetails"]
        assert image == {"repository": f"{REGISTRY}/credit-risk/{name}", "digest": pushed[-1]["imageDigest"]}
        assert f"--set-string={name}.image.digest={image['digest']}" in upgrade


def test_a_second_run_rebuilds_no_image(job: Job) -> None:
    before = len([call for call in job.calls("docker") if call[:2] == ["buildx", "build"]])
    assert before == 5
    assert job.step("Build and push what changed") == 0
    assert job.output["Build and push what changed"].count("(already pushed)") == before
    assert len([call for call in job.calls("docker") if call[:2] == ["buildx", "build"]]) == before


def test_the_only_session_is_a_port_forward_to_the_server(job: Job, applied: Applied) -> None:
    (session,) = job.calls("session-manager-plugin")
    request = json.loads(session[4])
    assert request["Target"] == applied.outputs["server_instance_id"]
    assert request["DocumentName"] == "AWS-StartPortForwardingSession"
    assert request["Parameters"] == {"portNumber": ["6443"], "localPortNumber": [job.environment["LOCAL_PORT"]]}


def test_helm_gets_terraforms_values_last_and_the_kubeconfig_of_the_connection(job: Job, applied: Applied) -> None:
    (upgrade,) = [call for call in job.calls("helm") if call[0] == "upgrade"]
    files = [option.partition("=")[2] for option in upgrade if option.startswith("--values=")]
    assert files == ["charts/credit-risk/values-k3s.yaml", f"{job.folder}/aws.yaml"]
    assert Path(files[1]).read_text() == applied.outputs["helm_values"]
    assert (job.folder / "kubeconfigs").read_text().split() == [f"{job.folder}/k3s/kubeconfig"]


def test_the_kubeconfig_uses_the_jobs_token_and_trusts_only_the_clusters_ca(job: Job, github: Github) -> None:
    file = job.folder / "k3s/kubeconfig"
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    assert file.stat().st_mode & 0o077 == 0
    (entry,), (user,) = config["clusters"], config["users"]
    assert entry["cluster"]["server"] == f"https://127.0.0.1:{job.environment['LOCAL_PORT']}"
    assert Path(entry["cluster"]["certificate-authority"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    plugin = user["user"]["exec"]
    credential = subprocess.run(
        [plugin["command"], *plugin["args"]], env=job.environment, capture_output=True, text=True, check=True
    )
    assert json.loads(credential.stdout)["status"]["token"].startswith("header.")
    assert github.requests[-1] == ("/token?api-version=2&audience=credit-risk", "Bearer job")


def test_the_summary_names_the_served_version_and_images(job: Job) -> None:
    summary = (job.folder / "summary.md").read_text()
    assert summary.startswith("## Deployed\n\na loan scores 0.2500 by credit-risk version 7")
    assert f"`{REGISTRY}/credit-risk/api@sha256:" in summary


def connect(job: Job, tmp_path: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    variables = {name: job.variables[name] for name in ("K3S_SERVER_ID", "K3S_CA_URL", "K3S_AUDIENCE")}
    return subprocess.run(
        [str(REPOSITORY / ".github/scripts/connect.sh"), str(tmp_path / "k3s")],
        env=job.environment | variables | {"LOCAL_PORT": "1"} | changed, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_missing_ca_is_reported_as_a_server_that_did_not_start(job: Job, cluster: Cluster, tmp_path: Path) -> None:
    result = connect(job, tmp_path, K3S_CA_URL=f"{cluster.ca_url}.missing")
    assert result.returncode == 1
    assert "has the server started?" in result.stderr
    assert not (tmp_path / "k3s/kubeconfig").exists()


def test_a_session_that_ends_is_reported_with_its_own_error(job: Job, tmp_path: Path) -> None:
    result = connect(job, tmp_path, K3S_SERVER_ID="i-00000000000000bad")
    assert result.returncode == 1
    assert "the session ended:" in result.stderr
    assert "TargetNotConnected" in result.stderr
    assert not (tmp_path / "k3s/kubeconfig").exists()
