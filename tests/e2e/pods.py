"""What tests see of pods, and the harm that they do to them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from e2e.kube import Document

OPERATOR = "app.kubernetes.io/name=operator"
# What the operator's pods and the scoring pods run.
PROMOTER, SCORER = "promoter", "scorer"


def is_ready(pod: Document) -> bool:
    """Return whether a pod gets traffic."""
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def processes(pod: Document, module: str) -> list[int]:
    """Return the ids of a pod's processes that run a Python module, as this machine numbers them.

    They are found by the pod's cgroup: the pod's status tells of a container some seconds after it began. The pod's
    sandbox is left alone: without it the pod's address would be gone too, as when a whole node dies.
    """
    uid = pod["metadata"]["uid"]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                group = (entry / "cgroup").read_text()
                # systemd writes it with underscores.
                if (uid in group or uid.replace("-", "_") in group) and module in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
    return found


def sigkill(victims: Sequence[int]) -> None:
    """Kill processes the hard way, as the kernel would: nobody gets to say goodbye."""
    assert victims, "there is no such process on this machine"
    _send(signal.SIGKILL, victims)


def sigstop(victims: Sequence[int]) -> None:
    """Freeze processes: from now on they do nothing, and hear of no other signal than SIGKILL."""
    _send(signal.SIGSTOP, victims)


def _send(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        # A probe's process ends by itself, and others with their parent.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
