"""`python -m decisions serve` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from conftest import REPOSITORY
from decisions.settings import ServeSettings
from processes import free_port
from unit.decisions.service.site import environment


@dataclass(frozen=True)
class Process:
    """A running service."""

    url: str
    management_url: str
    child: subprocess.Popen[bytes]

    def alive(self) -> bool:
        return self.child.poll() is None and httpx.get(f"{self.management_url}/healthz").status_code == 200


@contextmanager
def running_process(settings: ServeSettings, *, ready: bool = True) -> Iterator[Process]:
    """Run the service, and wait until it is ready, or at least alive."""
    port, management_port = free_port(), free_port()
    variables = {
        **environment(settings),
        "DECISIONS_HOST": "127.0.0.1",
        "DECISIONS_PORT": str(port),
        "DECISIONS_MANAGEMENT_PORT": str(management_port),
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / f"images/{name}/src") for name in ("decisions", "api")),
    }
    child = subprocess.Popen([sys.executable, "-m", "decisions", "serve"], env=variables, stderr=subprocess.DEVNULL)
    process = Process(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{management_port}", child)
    try:
        deadline = time.monotonic() + 60
        while not _answers(f"{process.management_url}/{'readyz' if ready else 'healthz'}"):
            assert child.poll() is None, child.returncode
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield process
    finally:
        child.kill()
        child.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False
