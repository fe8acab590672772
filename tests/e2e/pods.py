"""What tests see of pods, and the harm that they do to them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from e2e.kube import Document

OPERATOR = "app.kubernetes.io/name=operator"


def is_ready(pod: Document) -> bool:
    """Return whether a pod gets traffic."""
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def processes(pod: Document) -> list[int]:
    """Return the ids of the processes in a pod's containers, as this machine numbers them.

    The pod's sandbox is left alone: without it the pod's address would be gone too, as when a whole node dies.
    """
    names = [status["containerID"].rpartition("/")[2] for status in pod["status"]["containerStatuses"]]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                group = (entry / "cgroup").read_text()
                if any(name in group for name in names):
                    found.append(int(entry.name))
    assert found, f"no process of pod {pod['metadata']['name']} is on this machine"
    return found


def sigkill(victims: Sequence[int]) -> None:
    """Kill processes the hard way, as the kernel would: nobody gets to say goodbye."""
    for pid in victims:
        # A probe's process ends by itself, and others with their parent.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
