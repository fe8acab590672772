"""global.caBundle reaches every pod that makes TLS connections, and the programs in it trust the bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from charts.rendering import Document, containers, environment, pod_templates, render, run_helm
from charts.tls_servers import https_server, postgres_server, self_signed

FOLDER = "/etc/creditrisk/ca"
FILE = f"{FOLDER}/ca.crt"
OPENSSL = {"SSL_CERT_FILE": FILE, "SSL_CERT_DIR": FOLDER}
S3 = OPENSSL | {"AWS_CA_BUNDLE": FILE}
CLIENTS = S3 | {"REQUESTS_CA_BUNDLE": FILE}
DATABASE = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": FILE}
EXPECTED = {
    "Deployment/scoring": OPENSSL,
    "Deployment/operator": OPENSSL,
    "Deployment/mlflow": CLIENTS,
    "Job/training": CLIENTS,
    "CronJob/backup": S3,
    "CronJob/restore": S3,
}
# Containers that connect to the database alone.
DATABASE_CLIENTS = {"dump", "database", "dump-decisions", "decisions"}
# The TLS clients in the images. Each prints the status of its answer; psycopg2 raises what the server answers.
PROGRAMS = {
    "aiohttp": "import aiohttp, asyncio\n"
    "async def main():\n"
    "    async with aiohttp.ClientSession() as session, session.get(URL) as answer: print(answer.status)\n"
    "asyncio.run(main())",
    "urllib3": "import urllib3; print(urllib3.PoolManager(retries=False).request('GET', URL).status)",
    "requests": "import requests; print(requests.get(URL).status_code)",
    "psycopg2": "import psycopg2; psycopg2.connect(URL)",
    "boto3": "import boto3; s3 = boto3.client('s3', endpoint_url=URL, region_name='x', aws_access_key_id='x', "
    "aws_secret_access_key='x'); print(s3.head_bucket(Bucket='b')['ResponseMetadata']['HTTPStatusCode'])",
}


def pods(scenario: str, *options: str) -> dict[str, Document]:
    """Return pod templates by "Kind/name", without the hash in the name of a Job."""
    templates = pod_templates(render(scenario, *options))
    return {"Job/training" if name.startswith("Job/") else name: template for name, template in templates.items()}


def bundle_variables(container: Document) -> dict[str, str]:
    """Return the variables that name the bundle, or that libpq needs to use it."""
    known = {*CLIENTS, *DATABASE}
    return {name: value for name, value in environment(container).items() if name in known}


def test_the_bundle_reaches_every_pod_that_makes_tls_connections_and_no_other() -> None:
    for name, template in pods("credit-risk/ci/globals-values.yaml").items():
        volumes = [volume for volume in template["spec"].get("volumes", []) if volume["name"] == "ca-bundle"]
        secret = {"secretName": "our-cas", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        assert volumes == ([{"name": "ca-bundle", "secret": secret}] if name in EXPECTED else []), name
        for container in containers(template):
            mounts = [mount for mount in container.get("volumeMounts", []) if mount["name"] == "ca-bundle"]
            mount = {"name": "ca-bundle", "mountPath": FOLDER, "readOnly": True}
            assert mounts == ([mount] if name in EXPECTED else []), name
            expected = {} if container["name"] in DATABASE_CLIENTS else EXPECTED.get(name, {})
            assert bundle_variables(container) == expected, name


@pytest.mark.parametrize("part", ["api", "backup", "mlflow", "operator", "training"])
def test_the_bundle_may_be_any_key_of_a_config_map(part: str) -> None:
    for name, template in pods(f"{part}/ci/pod-settings-values.yaml").items():
        if not name.startswith("Pod/"):
            (volume,) = [volume for volume in template["spec"]["volumes"] if volume["name"] == "ca-bundle"]
            items = [{"key": "ca-bundle.crt", "path": "ca.crt"}]
            assert volume["configMap"] == {"name": "our-cas", "items": items}


@pytest.mark.parametrize("part", ["mlflow", "training"])
def test_connections_to_a_database_outside_the_stack_are_verified(part: str) -> None:
    for template in pods(f"{part}/ci/pod-settings-values.yaml").values():
        for container in containers(template):
            assert bundle_variables(container) == CLIENTS | DATABASE


def test_each_container_of_a_backup_verifies_what_it_connects_to() -> None:
    databases = dict.fromkeys(DATABASE_CLIENTS, DATABASE)
    expected = {**databases, "store": S3, "fetch": S3, "verify": S3 | DATABASE}
    for template in pods("backup/ci/pod-settings-values.yaml").values():
        for container in containers(template):
            assert bundle_variables(container) == expected[container["name"]]


def test_without_a_bundle_nothing_is_mounted_and_no_variable_set() -> None:
    for name, template in pods("credit-risk/ci/external-values.yaml").items():
        assert "ca-bundle" not in str(template), name
        assert not any(bundle_variables(container) for container in containers(template)), name


def test_a_config_map_and_a_secret_at_once_are_rejected() -> None:
    result = run_helm("template", "release", "api", "--set=global.caBundle.configMap=a,global.caBundle.secret=b")
    assert result.returncode != 0
    assert "global.caBundle: set configMap or secret, not both" in result.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of both servers, ca.crt."""
    return self_signed(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def server(certificate: Path) -> Iterator[str]:
    """The URL of an HTTPS server."""
    with https_server(certificate) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def database(certificate: Path) -> Iterator[str]:
    """The URL of a Postgres server."""
    with postgres_server(certificate) as port:
        yield f"postgresql://x@127.0.0.1:{port}/x"


@pytest.mark.parametrize(
    ("pod", "client"),
    [
        ("Deployment/scoring", "aiohttp"),
        ("Deployment/operator", "aiohttp"),
        ("Job/training", "urllib3"),
        ("Job/training", "requests"),
        ("Job/training", "boto3"),
        ("Deployment/mlflow", "requests"),
        ("Deployment/mlflow", "boto3"),
    ],
)
def test_programs_trust_the_bundle_with_the_variables_of_their_pod(
    pod: str, client: str, server: str, certificate: Path
) -> None:
    template = pods("credit-risk/ci/globals-values.yaml")[pod]
    variables = bundle_variables(template["spec"]["containers"][0])
    assert request(client, server, located(variables, certificate)).stdout == "200\n"


@pytest.mark.parametrize("client", ["aiohttp", "urllib3", "requests", "boto3"])
def test_programs_do_not_trust_the_bundle_without_them(client: str, server: str) -> None:
    result = request(client, server, {})
    assert result.returncode != 0
    assert "CERTIFICATE_VERIFY_FAILED" in result.stderr


@pytest.mark.parametrize(("part", "pod"), [("mlflow", "Deployment/mlflow"), ("training", "Job/training")])
def test_libpq_verifies_the_database_with_the_variables_of_its_pod(
    part: str, pod: str, database: str, certificate: Path, tmp_path: Path
) -> None:
    template = pods(f"{part}/ci/pod-settings-values.yaml")[pod]
    variables = bundle_variables(template["spec"]["containers"][0])
    trusted = request("psycopg2", database, located(variables, certificate))
    assert "refused over TLS" in trusted.stderr
    untrusted = request("psycopg2", database, located(variables, self_signed(tmp_path)))
    assert "certificate verify failed" in untrusted.stderr
    assert "plain text" not in untrusted.stderr, "must not fall back to an unencrypted connection"


def located(variables: dict[str, str], folder: Path) -> dict[str, str]:
    """Return the variables of a pod for a bundle in another folder."""
    return {name: value.replace(FOLDER, str(folder)) for name, value in variables.items()}


def request(client: str, url: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Send a request from a separate process, because the libraries read the variables at import."""
    others = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [sys.executable, "-c", f"URL = {url!r}\n{PROGRAMS[client]}"],
        capture_output=True, text=True, env=others | variables, timeout=60,
    )  # fmt: skip
