"""How an instance becomes the cluster's server: server.sh with the real AWS CLI, moto, and a stub of k3s."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from aws.machine import PROVIDER, SERVER_SETTINGS, Machine
from aws.programs import aws_cli
from aws.terraform import REGION, client, credentials
from conftest import REPOSITORY

pytestmark = pytest.mark.terraform
DEVICE = "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
SECRETS = {"server-token": "server-secret", "agent-token": "agent-secret", "database-password": "db-secret"}


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The AWS CLI."""
    return aws_cli(tmp_path_factory.mktemp("aws")) / "aws"


def prepared(root: Path, moto: str, aws: Path) -> Machine:
    """Return a machine with its data disk, and create in moto the parameters and buckets that Terraform would."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST")).close()
    machine = Machine(root, SERVER_SETTINGS, credentials(moto))
    machine.use_aws_cli(aws)
    (root / "dev/disk/by-id" / DEVICE).touch()
    for manifest in (REPOSITORY / "manifests").glob("k3s-*.yaml"):
        (root / "opt/creditrisk/manifests" / manifest.name).write_text(manifest.read_text())
    ssm = client("ssm", moto)
    for name, value in {**SECRETS, "join-token": "pending"}.items():
        ssm.put_parameter(Name=f"/credit-risk/{name}", Value=value, Type="SecureString")
    for purpose in ("backups", "identity"):
        client("s3", moto).create_bucket(
            Bucket=f"credit-risk-{purpose}", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
    return machine


@pytest.fixture
def server(tmp_path: Path, moto: str, aws: Path) -> Machine:
    """A machine that has not booted yet."""
    return prepared(tmp_path, moto, aws)


@dataclass(frozen=True)
class Booted:
    """A machine after its first boot, and what is then in AWS."""

    machine: Machine
    result: subprocess.CompletedProcess[str]
    join_token: dict[str, Any]
    published: dict[str, tuple[str, bytes]]


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory, moto: str, aws: Path) -> Booted:
    """The first server of a cluster."""
    machine = prepared(tmp_path_factory.mktemp("server"), moto, aws)
    result = machine.run("server.sh")
    s3 = client("s3", moto)
    objects = {
        entry["Key"]: s3.get_object(Bucket="credit-risk-identity", Key=entry["Key"])
        for entry in s3.list_objects_v2(Bucket="credit-risk-identity").get("Contents", [])
    }
    return Booted(
        machine,
        result,
        client("ssm", moto).get_parameter(Name="/credit-risk/join-token", WithDecryption=True)["Parameter"],
        {key: (found["ContentType"], found["Body"].read()) for key, found in objects.items()},
    )


def snapshots(moto: str, *names: str) -> None:
    """Put snapshots into the bucket in this order."""
    for name in names:
        client("s3", moto).put_object(Bucket="credit-risk-backups", Key=f"etcd/{name}", Body=b"snapshot")
        if name != names[-1]:
            time.sleep(1.1)  # S3 keeps times in whole seconds


def test_a_new_server_runs_its_steps_in_order(booted: Booted) -> None:
    assert booted.result.returncode == 0, booted.result.stderr
    booted.machine.assert_order(
        "blkid", "mkfs.ext4", "mount", "/k3s\n", PROVIDER, "ssm get-parameter --with-decryption --name "
        "/credit-risk/server-token", "s3api list-objects-v2", "systemctl enable k3s", "systemctl start --no-block k3s",
        "kubectl get --raw /readyz", "ssm put-parameter", "/.well-known/openid-configuration", "/openid/v1/jwks",
        "--key ca.crt", "systemctl enable --now creditrisk-drain.timer",
    )  # fmt: skip
    assert "cluster-reset" not in booted.machine.calls.read_text()
    assert booted.result.stdout.splitlines()[-1] == "credit-risk: the server is ready"


def test_the_configuration_of_k3s_and_the_api_server_is_complete(booted: Booted) -> None:
    file = booted.machine.root / "etc/rancher/k3s/config.yaml"
    config = yaml.safe_load(file.read_text())
    assert file.stat().st_mode & 0o077 == 0
    assert (config["token"], config["agent-token"]) == ("server-secret", "agent-secret")
    assert (config["etcd-s3-bucket"], config["etcd-s3-folder"]) == ("credit-risk-backups", "etcd")
    assert config["secrets-encryption"] is True
    assert config["node-label"] == ["creditrisk.io/disk=kept", "topology.kubernetes.io/zone=eu-central-1b"]
    arguments = dict(argument.split("=", 1) for argument in config["kube-apiserver-arg"])
    assert arguments["service-account-issuer-"] == SERVER_SETTINGS["ISSUER"]
    assert arguments["service-account-jwks-uri"] == f"{SERVER_SETTINGS['ISSUER']}/openid/v1/jwks"
    authentication = yaml.safe_load(Path(arguments["authentication-config"]).read_text())
    (issuer,) = authentication["jwt"]
    assert issuer["issuer"]["audiences"] == ["credit-risk"]
    assert {rule["claim"]: rule["requiredValue"] for rule in issuer["claimValidationRules"]} == {
        "repository_id": "22",
        "environment": "production",
    }
    groups = issuer["claimMappings"]["groups"]["expression"]
    deployer = (REPOSITORY / "manifests/k3s-deployer.yaml").read_text()
    bound = {subject["name"] for document in yaml.safe_load_all(deployer) for subject in document.get("subjects", [])}
    assert bound == set(json.loads(groups.replace("'", '"')))


def test_k3s_gets_the_manifests_and_the_database_secret(booted: Booted) -> None:
    folder = booted.machine.root / "var/lib/rancher/k3s/server/manifests"
    assert {file.name for file in folder.iterdir()} == {
        "k3s-deployer.yaml", "k3s-storage.yaml", "k3s-traefik.yaml", "credit-risk-database.yaml"}  # fmt: skip
    secret = yaml.safe_load((folder / "credit-risk-database.yaml").read_text())
    assert secret["stringData"] == {"username": "mlflow", "password": "db-secret", "database": "mlflow"}
    assert (folder / "credit-risk-database.yaml").stat().st_mode & 0o077 == 0


def test_the_join_token_public_keys_and_ca_are_published(booted: Booted) -> None:
    assert (booted.join_token["Type"], booted.join_token["Value"].strip()) == (
        "SecureString", "K10abc::node:agent-secret")  # fmt: skip
    assert {key: (kind, json.loads(body)) for key, (kind, body) in booted.published.items() if key != "ca.crt"} == {
        path: ("application/json", {"path": f"/{path}"})
        for path in (".well-known/openid-configuration", "openid/v1/jwks")
    }
    assert booted.published["ca.crt"] == ("application/x-pem-file", b"the CA\n")


def test_no_secret_appears_in_the_log_or_on_a_command_line(booted: Booted) -> None:
    said = booted.result.stdout + booted.result.stderr + booted.machine.calls.read_text()
    assert not [secret for secret in (*SECRETS.values(), "K10abc") if secret in said]


def test_a_disk_with_data_is_not_formatted_and_its_cluster_continues(server: Machine, moto: str) -> None:
    snapshots(moto, "old")
    server.answer("file-system", "")
    (server.root / "var/lib/rancher/k3s/server/db/etcd").mkdir(parents=True)
    # As on a machine where the script has already run.
    (server.root / "etc/fstab").write_text(
        f"{server.root}/dev/disk/by-id/{DEVICE} {server.root}/var/lib/rancher ext4\n"
    )
    result = server.run("server.sh")
    assert result.returncode == 0, result.stderr
    assert (server.root / "etc/fstab").read_text().count(DEVICE) == 1
    calls = server.calls.read_text()
    assert "mkfs" not in calls
    assert "cluster-reset" not in calls
    assert "list-objects" not in calls


def test_a_new_disk_gets_the_newest_snapshot_before_k3s_starts(server: Machine, moto: str) -> None:
    # k3s keeps a description of each snapshot beside it.
    snapshots(moto, "zz-older", "aa-newest", ".metadata/aa-newest")
    result = server.run("server.sh")
    assert result.returncode == 0, result.stderr
    server.assert_order(
        "k3s server --cluster-reset --cluster-reset-restore-path=aa-newest\n", "systemctl start --no-block k3s",
        "/readyz", "delete secret credit-risk-server.node-password.k3s --ignore-not-found", "ssm put-parameter",
    )  # fmt: skip
    assert "restoring aa-newest" in result.stdout


def test_a_failed_restore_stops_the_boot_before_an_empty_cluster_starts(server: Machine, moto: str) -> None:
    snapshots(moto, "torn")
    server.answer("broken-snapshot", "")
    result = server.run("server.sh")
    assert result.returncode == 1
    assert "FAILED: cannot restore the snapshot etcd/torn" in result.stderr
    assert "systemctl" not in server.calls.read_text()


def test_a_bucket_that_cannot_be_listed_is_not_treated_as_empty(server: Machine, moto: str) -> None:
    client("s3", moto).delete_bucket(Bucket="credit-risk-backups")
    result = server.run("server.sh")
    assert result.returncode == 1
    assert "NoSuchBucket" in result.stderr
    assert "FAILED: cannot list the snapshots in credit-risk-backups" in result.stderr
    assert "systemctl" not in server.calls.read_text()


def test_a_disk_that_is_never_attached_is_named(server: Machine) -> None:
    (server.root / "dev/disk/by-id" / DEVICE).unlink()
    server.shorten_waits("server.sh")
    result = server.run("server.sh")
    assert result.returncode == 1
    assert "FAILED: the disk vol-0123456789abcdef0 is not attached at " in result.stderr
    assert server.calls.read_text() == ""


@pytest.mark.parametrize("name", ["server-token", "agent-token", "database-password"])
def test_a_parameter_that_cannot_be_read_is_named(server: Machine, moto: str, name: str) -> None:
    client("ssm", moto).delete_parameter(Name=f"/credit-risk/{name}")
    result = server.run("server.sh")
    assert result.returncode == 1
    assert "ParameterNotFound" in result.stderr
    assert f"FAILED: cannot read the parameter /credit-risk/{name}" in result.stderr
    assert "systemctl" not in server.calls.read_text()


def test_nothing_is_published_if_kubernetes_does_not_start(server: Machine, moto: str) -> None:
    server.answer("broken-k3s", "")
    server.shorten_waits("server.sh")
    result = server.run("server.sh")
    assert result.returncode == 1
    assert "FAILED: Kubernetes did not start (see journalctl -u k3s): connection to the server" in result.stderr
    assert "put-parameter" not in server.calls.read_text()
    parameter = client("ssm", moto).get_parameter(Name="/credit-risk/join-token", WithDecryption=True)["Parameter"]
    assert parameter["Value"] == "pending"
