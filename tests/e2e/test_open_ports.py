"""Every port on which a pod of the stack listens stands in the table of docs/security.md, and no other one does."""

from __future__ import annotations

import json

import pytest

from localcluster.stack import Stack
from open_ports import documented_ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
# Only pods that log decisions have a shipper.
SHIPPER = {("api", 9091)}
# The page, the webhook for approvals, and pods that train together, which this stack does not have.
OFF = {("operator", 8081), ("operator", 8443), ("training", 29400)}
# The state of a listening socket in /proc/net/tcp.
LISTENING = "0A"
# 127.0.0.1, ::1 and ::ffff:127.0.0.1, as the same file writes them.
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def test_pods_listen_only_where_the_documentation_says(stack: Stack) -> None:
    pods = json.loads(stack.kubectl("get", "pods", "--field-selector=status.phase=Running", "--output=json"))["items"]
    found = {
        (pod["metadata"]["labels"]["app.kubernetes.io/name"], port)
        for pod in pods
        for port in listening(stack, pod["metadata"]["name"])
    }
    parts = {part for part, _ in found}
    assert parts >= {"api", "mlflow", "operator", "postgres"}
    documented = {(part, port) for part, port in documented_ports() if part in parts}
    assert found == documented - OFF - (SHIPPER if stack.decision_log == "off" else set())


def listening(stack: Stack, pod: str) -> set[int]:
    """Return the TCP ports that a pod listens on, but for those that only the pod itself can reach."""
    table = stack.kubectl("exec", pod, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    rows = [line.split() for line in table.splitlines() if not line.lstrip().startswith("sl")]
    addresses = [row[1].rpartition(":") for row in rows if row[3] == LISTENING]
    return {int(port, 16) for address, _, port in addresses if address not in LOOPBACK}
