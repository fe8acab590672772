"""What tests read of pods, and the faults they inject into them."""

from __future__ import annotations

import contextlib
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from e2e.kubernetes_api import Document
from localcluster.port_forward import PortForward
from localcluster.stack import Stack

OPERATOR = "app.kubernetes.io/name=operator"
STABLE, CANARY = "creditrisk.io/track=stable", "creditrisk.io/track=canary"
# Probes and metrics of the scoring pods.
MANAGEMENT_PORT = 9090
# The Python modules that the operator's pods and the scoring pods run.
PROMOTER, SCORER = "promoter", "scorer"


def is_ready(pod: Document) -> bool:
    """Return whether a pod receives traffic."""
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def processes(pod: Document, module: str) -> list[int]:
    """Return the process ids, as the host numbers them, of a pod's processes that run a Python module.

    They are found by the pod's cgroup, because the pod's status reports a container only some seconds after it started.
    The pod's sandbox is left out: without it the pod would lose its address too, as if the whole node had died.
    """
    uid = pod["metadata"]["uid"]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                group = (entry / "cgroup").read_text()
                # systemd writes the uid with underscores.
                if (uid in group or uid.replace("-", "_") in group) and module in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
    return found


def management(stack: Stack, pod: str, path: str) -> tuple[int, str]:
    """GET a path of a scoring pod's management port, to which no ingress leads; return the status and the body."""
    with PortForward(stack.kubectl_command(), f"pod/{pod}", MANAGEMENT_PORT, stack.environment()) as url:
        try:
            with urllib.request.urlopen(url + path, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def sigkill(pids: Sequence[int]) -> None:
    """Kill processes as the kernel would: none of them gets to shut down gracefully."""
    assert pids, "there is no such process on this machine"
    _send(signal.SIGKILL, pids)


def sigstop(pids: Sequence[int]) -> None:
    """Freeze processes: they stop running and receive no signal but SIGKILL."""
    _send(signal.SIGSTOP, pids)


def sigcont(pids: Sequence[int]) -> None:
    """Let frozen processes run again; those that were killed meanwhile stay dead."""
    _send(signal.SIGCONT, pids)


def _send(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        # A probe's process ends by itself, and others end with their parent.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
