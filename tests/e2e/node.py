"""The embedded cluster's node as an operating system: its processes, which tests kill and freeze."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster.console import wait_for
from localcluster.embedded.cluster import EmbeddedCluster

# A killed component starts again a second later, but the machine may be busy.
LONGEST_START_SECONDS = 120


@dataclass(frozen=True)
class Node:
    """The node of an embedded cluster, whose first process restarts the components that exit."""

    cluster: EmbeddedCluster

    def pid(self, component: str) -> int | None:
        """Return the host's pid of a component, None if it does not run."""
        first = self.cluster.first_process()
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(OSError):
                if Path(Path(f"/proc/{child}/cmdline").read_text().partition("\0")[0]).name == component:
                    return child
        return None

    def restart(self, *components: str) -> None:
        """Kill components without a graceful shutdown, all at once, and wait until all of them run again."""
        old = {component: self._running(component) for component in components}
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        for component, pid in old.items():
            self._wait_for_another(component, pid)

    @contextmanager
    def without_api_server(self) -> Iterator[None]:
        """Freeze the API server for the block, so that requests hang; then it dies with all of its connections.

        Afterwards it runs again and is ready, whatever happens in the block.
        """
        pid = self._running("kube-apiserver")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGKILL)
            self._wait_for_another("kube-apiserver", pid)
            wait_for("the API server", self.cluster.api_problem, timeout_seconds=LONGEST_START_SECONDS)

    def _wait_for_another(self, component: str, killed: int) -> None:
        wait_for(
            f"the restart of {component}",
            lambda: "it does not run" if self.pid(component) in {None, killed} else None,
            timeout_seconds=LONGEST_START_SECONDS,
        )

    def _running(self, component: str) -> int:
        pid = self.pid(component)
        assert pid is not None, f"{component} does not run"
        return pid
