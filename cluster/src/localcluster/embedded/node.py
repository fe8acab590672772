"""The node's first process: sets up its namespaces, starts the components in order, and restarts those that exit.

It runs as process 1 of its own PID, mount, network, IPC and UTS namespaces and uses only the standard library. When it
ends, for whatever reason, the kernel kills every process of the node and removes mounts, interfaces and routes together
with the namespaces. Only the state folder and the cgroup remain on the host.
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
class Component:
    """A program of the node; the components after it are started once `wait_port` accepts connections."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    wait_port: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything the first process needs to know."""

    hostname: str
    address: str
    logs: str
    status: str
    binds: dict[str, str]
    inherited_fds: list[int]
    components: list[Component]

    def save(self, file: Path) -> None:
        """Write the plan as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, file: Path) -> Plan:
        """Read a plan that `save` wrote."""
        document = json.loads(file.read_text())
        return cls(**{**document, "components": [Component(**component) for component in document["components"]]})


def _sh(*command: str) -> None:
    subprocess.run(command, check=True)


def prepare(plan: Plan) -> None:
    """Set up the node's host name, address, private /run and bind mounts."""
    _sh("hostname", plan.hostname)
    _sh("mount", "--make-rprivate", "/")
    _sh("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for source, target in plan.binds.items():
        Path(source).mkdir(parents=True, exist_ok=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        _sh("mount", "--bind", source, target)
    # The kubelet passes mounts on to containers, for which they must be shared.
    _sh("mount", "--make-rshared", "/")
    _sh("ip", "link", "set", "lo", "up")
    # Both ends stay in this namespace: the node needs its own address but no connection to the outside. A veth pair
    # instead of a dummy device, which not every kernel supports.
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
    """Starts the components, reaps all orphans of the node, and restarts components that exit."""

    def __init__(self, plan: Plan) -> None:
        """Store the plan; nothing is started yet."""
        self._plan = plan
        self._running: dict[int, Component] = {}
        self._due: list[tuple[float, Component]] = []
        self._restarts: dict[str, int] = {}

    def start(self, component: Component) -> None:
        """Start a component with its output in its own log."""
        with (Path(self._plan.logs) / f"{component.name}.log").open("ab") as log:
            process = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **component.environment},
                pass_fds=self._plan.inherited_fds,
                start_new_session=True,
            )
        self._running[process.pid] = component
        self._write_status()

    def start_all(self) -> None:
        """Start every component in order; a component with a `wait_port` delays those after it."""
        for component in self._plan.components:
            self.start(component)
            while component.wait_port and not _accepts(component.wait_port):
                self.tend()
                time.sleep(POLL_SECONDS)

    def tend(self) -> None:
        """Reap every process that has ended and restart components after a short delay."""
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            component = self._running.pop(pid, None)
            if component is not None:
                self._restarts[component.name] = self._restarts.get(component.name, 0) + 1
                code = os.waitstatus_to_exitcode(status)
                sys.stderr.write(f"{component.name} exited with code {code}; restarting it\n")
                sys.stderr.flush()
                self._due.append((time.monotonic() + RESTART_DELAY_SECONDS, component))
                self._write_status()
        for due in [entry for entry in self._due if entry[0] <= time.monotonic()]:
            self._due.remove(due)
            self.start(due[1])

    def _write_status(self) -> None:
        status = {
            "running": sorted(component.name for component in self._running.values()),
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
    """Run the plan in the file that the first argument names, until SIGTERM."""
    plan = Plan.load(Path(sys.argv[1]))
    # Process 1 ignores signals without a handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    prepare(plan)
    supervisor = Supervisor(plan)
    supervisor.start_all()
    while True:
        supervisor.tend()
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
