"""`kubectl port-forward` for the duration of a with-block."""

from __future__ import annotations

import subprocess
import threading

from localcluster.console import ClusterError

RESTART_DELAY_SECONDS = 0.2


class PortForward:
    """Forwards a local port to a service; restarts when kubectl exits, as it does when it loses a stream."""

    def __init__(self, kubectl: list[str], target: str, port: int, environment: dict[str, str]) -> None:
        """Store kubectl's command line, the target (service/name) and its port; nothing is started yet."""
        self._command = [*kubectl, "port-forward", "--address=127.0.0.1", target]
        self._port, self._environment = port, environment
        self._closed = threading.Event()

    def __enter__(self) -> str:
        """Start forwarding and return the local URL."""
        self._process = self._start(":")
        line = self._process.stdout.readline() if self._process.stdout else ""
        # kubectl prints: Forwarding from 127.0.0.1:12345 -> 9000
        if "Forwarding from" not in line:
            self._process.kill()
            raise ClusterError(f"`kubectl port-forward` failed: {line.strip()}")
        address = line.split()[2]
        threading.Thread(target=self._keep, args=(f"{address.rpartition(':')[2]}:",), daemon=True).start()
        return f"http://{address}"

    def __exit__(self, *_: object) -> None:
        """Stop forwarding."""
        self._closed.set()
        self._process.terminate()
        self._process.wait()

    def _start(self, local: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, f"{local}{self._port}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self._environment,
        )  # fmt: skip

    def _keep(self, local: str) -> None:
        """Drain kubectl's output, so that it never blocks on a full pipe, and restart it on the same port."""
        while True:
            for _ in self._process.stdout or ():
                pass
            self._process.wait()
            if self._closed.wait(RESTART_DELAY_SECONDS):
                return
            self._process = self._start(local)
            if self._closed.is_set():
                self._process.terminate()
