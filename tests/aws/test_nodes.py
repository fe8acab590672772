"""How an instance becomes a node: the scripts and the user data, run in a folder and checked with linters."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aws.conftest import Applied
from aws.machine import FILES, PROVIDER, SERVER_SETTINGS, SETTINGS, Machine
from environments import unpacked


@pytest.fixture
def agent(tmp_path: Path) -> Machine:
    """A machine with everything an agent needs: metadata, downloads, and the token of a running server."""
    machine = Machine(tmp_path)
    machine.answer("parameters/join-token", "K10abc::node:secret")
    return machine


def test_an_agent_downloads_k3s_reads_its_token_and_starts(agent: Machine) -> None:
    result = agent.run("agent.sh")
    assert result.returncode == 0, result.stderr
    agent.assert_order("instance-id", "/k3s\n", PROVIDER, "ssm get-parameter", "systemctl start --no-block k3s")
    config = yaml.safe_load((agent.root / "etc/rancher/k3s/config.yaml").read_text())
    assert config["server"] == "https://10.0.128.10:6443"
    assert config["node-name"] == "i-0123456789abcdef0"
    assert config["node-label"] == ["topology.kubernetes.io/zone=eu-central-1b"]
    assert "joined as i-0123456789abcdef0" in result.stdout


def test_the_join_token_is_not_logged_and_readable_only_by_root(agent: Machine) -> None:
    result = agent.run("agent.sh")
    assert "K10abc" not in result.stdout + result.stderr
    token = agent.root / "etc/rancher/k3s/token"
    assert token.read_text().strip() == "K10abc::node:secret"
    assert token.stat().st_mode & 0o077 == 0


def test_the_credential_provider_is_where_k3s_expects_it(agent: Machine) -> None:
    agent.run("agent.sh")
    folder = agent.root / "var/lib/rancher/credentialprovider"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert os.access(folder / "bin" / config["providers"][0]["name"], os.X_OK)


def test_a_tampered_download_is_refused_with_both_hashes_in_the_message(agent: Machine) -> None:
    agent.answer("k3s", "something else")
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "FAILED" in result.stderr
    assert "has the SHA-256" in result.stderr
    assert not (agent.root / "usr/local/bin/k3s").exists()
    assert "systemctl" not in agent.calls.read_text()


def test_a_failed_download_is_reported_with_its_url(agent: Machine) -> None:
    (agent.answers / PROVIDER).unlink()
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "cannot download https://artifacts.k8s.io/" in result.stderr


def test_nothing_is_downloaded_without_instance_metadata(agent: Machine) -> None:
    (agent.answers / "token").unlink()
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "the instance metadata service does not answer" in result.stderr
    assert "k3s" not in agent.calls.read_text()


def test_an_agent_waits_for_the_server_before_it_starts(agent: Machine) -> None:
    agent.answer("parameters/join-token", "pending")
    agent.shorten_waits("agent.sh")
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "/credit-risk/join-token is pending: the server has not started yet" in result.stderr
    assert "systemctl" not in agent.calls.read_text()


def test_shellcheck_finds_no_problems() -> None:
    program = Path(sys.executable).with_name("shellcheck")
    scripts = [str(path) for path in sorted(FILES.glob("*.sh"))]
    result = subprocess.run([str(program), "--external-sources", *scripts], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def user_data(applied: Applied) -> dict[str, str]:
    """Return the user data of the server and of the agents."""
    ec2 = applied.client("ec2")
    server = ec2.describe_instance_attribute(
        InstanceId=applied.outputs["server_instance_id"], Attribute="userData"
    )["UserData"]["Value"]  # fmt: skip
    (template,) = ec2.describe_launch_template_versions(
        LaunchTemplateName="credit-risk-agents", Versions=["$Latest"]
    )["LaunchTemplateVersions"]  # fmt: skip
    agent = template["LaunchTemplateData"]["UserData"]
    return {"server": b64decode(server).decode(), "agent": b64decode(agent).decode()}


@pytest.mark.slow
@pytest.mark.terraform
@pytest.mark.parametrize("kind", ["server", "agent"])
def test_user_data_contains_the_scripts_under_test(applied: Applied, kind: str) -> None:
    text = user_data(applied)[kind]
    document = yaml.safe_load(text)
    written: dict[str, Any] = {file["path"]: file for file in document["write_files"]}
    assert len(text.encode()) < 16384
    for name in ("lib.sh", f"{kind}.sh"):
        content = gzip.decompress(b64decode(written[f"/opt/creditrisk/{name}"]["content"])).decode()
        assert content == (FILES / name).read_text()
    assert document["runcmd"] == [[f"/opt/creditrisk/{kind}.sh"]]
    settings = written["/etc/creditrisk/node.env"]
    assert settings["permissions"] == "0600"
    names = {line.partition("=")[0] for line in settings["content"].splitlines()}
    assert names == set(SERVER_SETTINGS if kind == "server" else SETTINGS)


@pytest.fixture(scope="module")
def cloud_config_schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The schema that `cloud-init schema` checks against, from Debian's package.

    The package is not installed, because cloud-init would then run at this machine's next boot.
    """
    folder = unpacked("cloud-init", tmp_path_factory.mktemp("cloud-init"))
    (schema,) = folder.rglob("schema-cloud-config-v1.json")
    return dict(json.loads(schema.read_text()))


@pytest.mark.slow
@pytest.mark.terraform
@pytest.mark.parametrize("kind", ["server", "agent"])
def test_user_data_conforms_to_cloud_inits_schema(
    applied: Applied, cloud_config_schema: dict[str, Any], kind: str
) -> None:
    text = user_data(applied)[kind]
    assert text.startswith("#cloud-config\n")
    validator = jsonschema.Draft4Validator(cloud_config_schema)
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
    # The schema is effective: it refuses an unknown key.
    assert not validator.is_valid({"write_files": [{"path": "/a", "colour": "red"}]})
