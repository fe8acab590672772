"""The node's first process: sets up its namespaces, starts the parts in order, and starts again what dies.

It runs as process 1 of its own PID, mount, network, IPC and UTS namespaces, with nothing but the standard library.
When it ends, however it ends, the kernel ends every process of the node, and mounts, interfaces and routes go with
the namespaces: there is nothing on the host to clean but the state folder and the cgroup.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

RESTART_DELAY_SECONDS = 1.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Part:
    """One program of the node. Parts after it start once `wait_port` accepts."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    wait_port: int | None = None


@dataclass(frozen=True)
class Plan:
    """All that the first process has to know."""

    hostname: str
    address: str
    logs: str
    status: str
    binds: dict[str, str]
    inherited_fds: list[int]
    parts: list[Part]

    def save(self, file: Path) -> None:
        """Write the plan as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, file: Path) -> Plan:
        """Read what `save` wrote."""
        document = json.loads(file.read_text())
        return cls(**{**document, "parts": [Part(**part) for part in document["parts"]]})


def _sh(*command: str) -> None:
    subprocess.run(command, check=True)


def prepare(plan: Plan) -> None:
    """Give the node its host name, address, private /run and its own copies of the fixed folders."""
    _sh("hostname", plan.hostname)
    _sh("mount", "--make-rprivate", "/")
    _sh("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for source, target in plan.binds.items():
        Path(source).mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        _sh("mount", "--bind", source, target)
    # The kubelet passes mounts on to containers and wants to be able to share them.
    _sh("mount", "--make-rshared", "/")
    _sh("ip", "link", "set", "lo", "up")
    # Both ends stay here: the node needs an address of its own, but no way out. (Not every kernel has dummy devices.)
    _sh("ip", "link", "add", "node0", "type", "veth", "peer", "name", "node1")
    _sh("ip", "link", "set", "node1", "up")
    _sh("ip", "address", "add", f"{plan.address}/24", "dev", "node0")
    _sh("ip", "link", "set", "node0", "up")
    _sh("ip", "route", "add", "default", "dev", "node0")
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        file = Path("/proc/sys") / setting
        if file.exists():
            file.write_text("1")


class Supervisor:
    """Starts the parts, reaps every orphan of the node, and restarts parts that end."""

    def __init__(self, plan: Plan) -> None:
        """Take the plan; nothing is started yet."""
        self._plan = plan
        self._running: dict[int, Part] = {}
        self._due: list[tuple[float, Part]] = []
        self._restarts: dict[str, int] = {}

    def start(self, part: Part) -> None:
        """Start a part with its output in its own log."""
        with (Path(self._plan.logs) / f"{part.name}.log").open("ab") as log:
            process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **part.environment},
                pass_fds=self._plan.inherited_fds,
                start_new_session=True,
            )
        self._running[process.pid] = part
        self._write_status()

    def start_all(self) -> None:
        """Start every part in order; a part with a `wait_port` holds up the ones after it."""
        for part in self._plan.parts:
            self.start(part)
            while part.wait_port and not _accepts(part.wait_port):
                self.tend()
                time.sleep(POLL_SECONDS)

    def tend(self) -> None:
        """Reap whatever ended; parts are started again after a short delay."""
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            part = self._running.pop(pid, None)
            if part is not None:
                self._restarts[part.name] = self._restarts.get(part.name, 0) + 1
                sys.stderr.write(f"{part.name} ended with {os.waitstatus_to_exitcode(status)}; starting it again\n")
                sys.stderr.flush()
                self._due.append((time.monotonic() + RESTART_DELAY_SECONDS, part))
                self._write_status()
        for due in [entry for entry in self._due if entry[0] <= time.monotonic()]:
            self._due.remove(due)
            self.start(due[1])

    def _write_status(self) -> None:
        status = {
            "running": sorted(part.name for part in self._running.values()),
            "restarts": self._restarts,
        }
        partial = Path(self._plan.status + ".partial")
        partial.write_text(json.dumps(status))
        partial.rename(self._plan.status)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Run the plan named by the first argument until a signal ends the node."""
    plan = Plan.load(Path(sys.argv[1]))
    # Process 1 ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    prepare(plan)
    supervisor = Supervisor(plan)
    supervisor.start_all()
    while True:
        supervisor.tend()
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
