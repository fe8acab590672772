"""A folder that stands in for a machine's root file system, with stubs for what only a real machine has."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from conftest import REPOSITORY

FILES = REPOSITORY / "infra/aws/modules/cluster/files"
AGENT = "i-0123456789abcdef0"
PROVIDER = "ecr-credential-provider-linux-amd64"

CURL = """#!/bin/bash
# Serves each URL from the folder $ANSWERS; a URL without a file there is a refused connection.
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


# k3s as the scripts use it, including kubectl's answers.
K3S = """#!/bin/bash
echo "k3s $*" >>"$CALLS"
case "$*" in
    "server --cluster-reset "*)
        [ ! -f "$ANSWERS/broken-snapshot" ] || { echo "snapshot restore failed" >&2; exit 1; } ;;
    "kubectl get --raw /readyz")
        [ -f "$ANSWERS/started" ] || { echo "connection to the server 127.0.0.1:6443 was refused" >&2; exit 1; } ;;
    "kubectl get --raw /"*) echo "{\\"path\\": \\"${!#}\\"}" ;;
    "kubectl get nodes "*) cat "$ANSWERS/nodes" ;;
    "kubectl drain "*)
        [ ! -f "$ANSWERS/drain-fails" ] || { echo "error: timed out" >&2; exit 1; } ;;
    "kubectl delete node "* | "kubectl --namespace kube-system delete secret "*) ;;
    *) echo "k3s: unexpected call of the stub: $*" >&2; exit 64 ;;
esac
"""
# Starting k3s writes its token and certificates to the disk.
SYSTEMCTL = """#!/bin/bash
echo "systemctl $*" >>"$CALLS"
if [ "$*" = "start --no-block k3s" ] && [ ! -f "$ANSWERS/broken-k3s" ]; then
    mkdir -p "$ROOT/var/lib/rancher/k3s/server/tls"
    echo "K10abc::node:agent-secret" >"$ROOT/var/lib/rancher/k3s/server/agent-token"
    echo "the CA" >"$ROOT/var/lib/rancher/k3s/server/tls/server-ca.crt"
    touch "$ANSWERS/started"
fi
"""
BLKID = """#!/bin/bash
echo "blkid $*" >>"$CALLS"
[ -f "$ANSWERS/file-system" ]
"""
SETTINGS = {
    "NODE_NAME_PREFIX": "credit-risk",
    "AWS_REGION": "eu-central-1",
    "K3S_VERSION": "v1.35.5+k3s1",
    "SERVER_ADDRESS": "10.0.128.10",
    "JOIN_TOKEN_PARAMETER": "/credit-risk/join-token",
}
SERVER_SETTINGS = SETTINGS | {
    "NAMESPACE": "credit-risk",
    "DATA_VOLUME": "vol-0123456789abcdef0",
    "SERVER_TOKEN_PARAMETER": "/credit-risk/server-token",
    "AGENT_TOKEN_PARAMETER": "/credit-risk/agent-token",
    "BACKUP_BUCKET": "credit-risk-backups",
    "IDENTITY_BUCKET": "credit-risk-identity",
    "ISSUER": "https://d111111abcdef8.cloudfront.net",
    "GITHUB_REPOSITORY_ID": "22",
    "GITHUB_ENVIRONMENT": "production",
    "AGENT_GROUP": "credit-risk-agents",
    "DRAIN_HOOK": "drain",
    "DATABASE_NAME": "mlflow",
    "DATABASE_USERNAME": "mlflow",
    "DATABASE_PASSWORD_PARAMETER": "/credit-risk/database-password",
}
ROOTED = r"(?<![\w}/])/(etc|var|opt/creditrisk|usr/local|dev/disk)(?=[/ ])"


class Machine:
    """A folder that stands in for a machine's root: the scripts, with their paths moved into it, and stubs."""

    def __init__(
        self, root: Path, settings: Mapping[str, str] = SETTINGS, environment: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self.answers = root / "answers"
        self.calls = root / "calls"
        self.environment = dict(environment or {})
        for folder in ("bin", "answers/parameters", "etc/systemd/system", "etc/creditrisk", "usr/local/bin",
                       "opt/creditrisk/manifests", "dev/disk/by-id"):  # fmt: skip
            (root / folder).mkdir(parents=True)
        self.calls.touch()
        for script in FILES.glob("*.sh"):
            text = re.sub(ROOTED, rf"{root}/\1", script.read_text())
            program(root / "opt/creditrisk" / script.name, text.replace("DATA=/var", f"DATA={root}/var"))
        stubs = {"curl": CURL, "aws": AWS, "systemctl": SYSTEMCTL, "blkid": BLKID, "mkfs.ext4": RECORD, "mount": RECORD}
        for name, text in stubs.items():
            program(root / "bin" / name, text)
        (root / "etc/creditrisk/node.env").write_text("".join(f"{k}='{v}'\n" for k, v in settings.items()))
        for name, text in {
            "token": "metadata-token",
            "instance-id": AGENT,
            "availability-zone": "eu-central-1b",
        }.items():
            self.answer(name, text)
        self.release(PROVIDER, f"{PROVIDER}.sha256")
        self.release("k3s", "sha256sum-amd64.txt", K3S)

    def use_aws_cli(self, aws: Path) -> None:
        """Replace the stub of `aws` by the real AWS CLI."""
        program(self.root / "bin/aws", f'#!/bin/bash\necho "aws $*" >>"$CALLS"\nexec {aws} "$@"\n')

    def answer(self, name: str, text: str) -> None:
        (self.answers / name).write_text(text)

    def release(self, name: str, sums: str, text: str = "#!/bin/sh\n") -> None:
        """Provide a download and the file with its hash."""
        self.answer(name, text)
        self.answer(sums, f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n")

    def shorten_waits(self, script: str) -> None:
        """Make a script stop waiting after one second."""
        file = self.root / "opt/creditrisk" / script
        file.write_text(re.sub(r"\bretry \d+", "retry 1", file.read_text()))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | {
            "PATH": f"{self.root}/bin:{self.root}/usr/local/bin:{os.environ['PATH']}",
            "ROOT": str(self.root),
            "ANSWERS": str(self.answers),
            "CALLS": str(self.calls),
            "RETRY_SECONDS": "0.1",
        }
        return subprocess.run(
            ["bash", str(self.root / "opt/creditrisk" / script)],
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def assert_order(self, *parts: str) -> None:
        """Assert that the calls contain these parts in this order."""
        calls, at = self.calls.read_text(), 0
        for part in parts:
            found = calls.find(part, at)
            assert found >= 0, f"{part!r} is missing or out of order:\n{calls}"
            at = found + len(part)


def program(file: Path, text: str) -> None:
    """Write an executable file."""
    file.write_text(text)
    file.chmod(0o755)
