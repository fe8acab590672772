"""How a machine becomes a node: the scripts and the user data, as shellcheck, cloud-init and a bare folder see them."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aws.conftest import Applied
from conftest import REPOSITORY

FILES = REPOSITORY / "infra/aws/modules/cluster/files"

CURL = """#!/bin/bash
# Answers each URL from the folder $ANSWERS; what has no file there is a refused connection.
while [ $# -gt 0 ]; do
    case $1 in
        --output) out=$2; shift ;;
        --header | --request | --retry | --connect-timeout) shift ;;
        http*) url=$1 ;;
    esac
    shift
done
echo "curl $url" >>"$CALLS"
answer=$ANSWERS/$(basename "$url")
[ -f "$answer" ] || { echo "curl: (7) refused: $url" >&2; exit 7; }
if [ -n "${out:-}" ]; then cp "$answer" "$out"; else cat "$answer"; fi
"""
AWS = """#!/bin/bash
echo "aws $*" >>"$CALLS"
[ "$1 $2" = "ssm get-parameter" ] || exit 0
name=$(sed -E 's/.*--name ([^ ]+).*/\\1/' <<<"$*")
file=$ANSWERS/parameters/$(basename "$name")
[ -f "$file" ] || { echo "ParameterNotFound: $name" >&2; exit 254; }
cat "$file"
"""
RECORD = '#!/bin/bash\necho "$(basename "$0") $*" >>"$CALLS"\n'


class Machine:
    """A folder that takes the place of a machine's root: the scripts with their paths moved into it, and stubs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers = root / "answers"
        self.calls = root / "calls"
        for folder in ("bin", "answers/parameters", "etc/creditrisk", "etc/systemd/system", "usr/local/bin", "opt"):
            (root / folder).mkdir(parents=True)
        self.calls.touch()
        for script in FILES.glob("*.sh"):
            text = re.sub(r"(?<![\w}/])/(etc|var|opt/creditrisk|usr/local)(?=[/ ])", rf"{root}/\1", script.read_text())
            target = root / "opt/creditrisk" / script.name
            target.parent.mkdir(exist_ok=True)
            target.write_text(text.replace("DATA=/var", f"DATA={root}/var"))
            target.chmod(0o755)
        for name, text in {"curl": CURL, "aws": AWS, "systemctl": RECORD}.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        settings = {
            "NODE_NAME_PREFIX": "credit-risk",
            "AWS_REGION": "eu-central-1",
            "K3S_VERSION": "v1.35.5+k3s1",
            "SERVER_ADDRESS": "10.0.128.10",
            "JOIN_TOKEN_PARAMETER": "/credit-risk/join-token",
        }
        (root / "etc/creditrisk/node.env").write_text("".join(f"{k}='{v}'\n" for k, v in settings.items()))

    def answer(self, name: str, text: str) -> None:
        (self.answers / name).write_text(text)

    def release(self, name: str, sums: str, text: str = "#!/bin/sh\n") -> None:
        """Offer a download and the file with its hash."""
        self.answer(name, text)
        digest = subprocess.run(
            ["sha256sum", str(self.answers / name)], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        self.answer(sums, f"{digest}  {name}\n")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "ANSWERS": str(self.answers),
            "CALLS": str(self.calls),
            "RETRY_SECONDS": "0.1",
        }
        return subprocess.run(
            ["bash", str(self.root / "opt/creditrisk" / script)],
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip


PROVIDER = "ecr-credential-provider-linux-amd64"


@pytest.fixture
def agent(tmp_path: Path) -> Machine:
    """A machine with all that an agent needs: metadata, downloads, and a token of a started server."""
    machine = Machine(tmp_path)
    machine.answer("token", "metadata-token")
    machine.answer("instance-id", "i-0123456789abcdef0")
    machine.release("k3s", "sha256sum-amd64.txt")
    machine.release(PROVIDER, f"{PROVIDER}.sha256")
    machine.answer("parameters/join-token", "K10abc::node:secret")
    return machine


def test_an_agent_downloads_then_reads_its_token_then_starts(agent: Machine) -> None:
    result = agent.run("agent.sh")
    assert result.returncode == 0, result.stderr
    calls = agent.calls.read_text()
    order = ["instance-id", "/k3s\n", PROVIDER, "ssm get-parameter", "systemctl start --no-block k3s"]
    positions = [calls.index(part) for part in order]
    assert positions == sorted(positions), calls
    config = yaml.safe_load((agent.root / "etc/rancher/k3s/config.yaml").read_text())
    assert config["server"] == "https://10.0.128.10:6443"
    assert config["node-name"] == "i-0123456789abcdef0"
    assert "joined as i-0123456789abcdef0" in result.stdout


def test_the_join_token_is_told_to_nobody(agent: Machine) -> None:
    result = agent.run("agent.sh")
    assert "K10abc" not in result.stdout + result.stderr
    token = agent.root / "etc/rancher/k3s/token"
    assert token.read_text().strip() == "K10abc::node:secret"
    assert token.stat().st_mode & 0o077 == 0


def test_the_credential_provider_is_where_k3s_looks_for_it(agent: Machine) -> None:
    agent.run("agent.sh")
    folder = agent.root / "var/lib/rancher/credentialprovider"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert os.access(folder / "bin" / config["providers"][0]["name"], os.X_OK)


def test_a_changed_download_is_refused_with_both_hashes(agent: Machine) -> None:
    agent.answer("k3s", "something else")
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "FAILED" in result.stderr
    assert "has the SHA-256" in result.stderr
    assert not (agent.root / "usr/local/bin/k3s").exists()
    assert "systemctl" not in agent.calls.read_text()


def test_a_failed_download_says_which(agent: Machine) -> None:
    (agent.answers / PROVIDER).unlink()
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "cannot download https://artifacts.k8s.io/" in result.stderr


def test_without_metadata_nothing_is_begun(agent: Machine) -> None:
    (agent.answers / "token").unlink()
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "the instance metadata service does not answer" in result.stderr
    assert "k3s" not in agent.calls.read_text()


def test_an_agent_does_not_start_before_the_server(agent: Machine) -> None:
    agent.answer("parameters/join-token", "pending")
    script = agent.root / "opt/creditrisk/agent.sh"
    script.write_text(script.read_text().replace("retry 1800", "retry 1"))
    result = agent.run("agent.sh")
    assert result.returncode == 1
    assert "/credit-risk/join-token is pending: the server has not started" in result.stderr
    assert "systemctl" not in agent.calls.read_text()


def test_shellcheck_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("shellcheck")
    scripts = [str(path) for path in sorted(FILES.glob("*.sh"))]
    result = subprocess.run([str(program), "--external-sources", *scripts], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def user_data(applied: Applied) -> dict[str, str]:
    """Return the user data of server and agents."""
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
def test_user_data_carries_the_scripts_that_are_tested_here(applied: Applied, kind: str) -> None:
    text = user_data(applied)[kind]
    document = yaml.safe_load(text)
    written: dict[str, Any] = {file["path"]: file for file in document["write_files"]}
    assert len(text.encode()) < 16384
    for name in ("lib.sh", f"{kind}.sh"):
        content = gzip.decompress(b64decode(written[f"/opt/creditrisk/{name}"]["content"])).decode()
        assert content == (FILES / name).read_text()
    assert document["runcmd"] == [[f"/opt/creditrisk/{kind}.sh"]]
    assert written["/etc/creditrisk/node.env"]["permissions"] == "0600"


@pytest.fixture(scope="module")
def cloud_config_schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The schema that `cloud-init schema` checks against, out of Debian's package.

    The package is not installed: a machine with cloud-init on it would run it at its next boot.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("cloud-init's schema comes from Debian's package, and this is no Debian")
    folder = tmp_path_factory.mktemp("cloud-init")
    fetched = subprocess.run(["apt-get", "download", "cloud-init"], cwd=folder, capture_output=True, text=True)
    assert fetched.returncode == 0, f"`apt-get update` may be needed first: {fetched.stderr}"
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    (schema,) = folder.rglob("schema-cloud-config-v1.json")
    return dict(json.loads(schema.read_text()))


@pytest.mark.slow
@pytest.mark.terraform
@pytest.mark.parametrize("kind", ["server", "agent"])
def test_user_data_passes_cloud_inits_own_schema(
    applied: Applied, cloud_config_schema: dict[str, Any], kind: str
) -> None:
    text = user_data(applied)[kind]
    assert text.startswith("#cloud-config\n")
    validator = jsonschema.Draft4Validator(cloud_config_schema)
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
    # It does look: an unknown key is refused.
    assert not validator.is_valid({"write_files": [{"path": "/a", "colour": "red"}]})
