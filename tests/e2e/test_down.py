"""The embedded cluster leaves nothing behind, even after a crash. A second one beside the first shows it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from localcluster.cluster import Cluster
from localcluster.embedded.cluster import EmbeddedCluster, cgroup_roots
from localcluster.paths import Paths
from localcluster.ports import Ports
from processes import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def second(cluster: Cluster, tmp_path: Path) -> EmbeddedCluster:
    if not isinstance(cluster, EmbeddedCluster):
        pytest.skip("kind cleans up after itself")
    ports = Ports(free_port(), free_port(), free_port())
    return EmbeddedCluster(Paths(tmp_path / "cache", tmp_path / "state"), ports)


def traces(cluster: EmbeddedCluster) -> dict[str, list[str]]:
    """Return everything that the host can see of a cluster."""
    state = str(cluster.paths.state)
    return {
        "processes": [entry.name for entry in Path("/proc").iterdir() if state in _command(entry)],
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if state in line],
        "namespaces": subprocess.check_output(["ip", "netns", "list"], text=True).splitlines(),
        "links": [
            link.name for link in Path("/sys/class/net").iterdir() if link.name.startswith(("veth", "cni", "node"))
        ],
        "cgroups": [str(root / cluster.cgroup) for root in cgroup_roots() if (root / cluster.cgroup).exists()],
        "state": [state] if cluster.paths.state.exists() else [],
    }


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("ending", ["in order", "by a crash"])
def test_nothing_is_left_after_down(second: EmbeddedCluster, cluster: Cluster, ending: str) -> None:
    second.paths.cache.symlink_to(cluster.paths.cache)
    clean: dict[str, list[str]] = {name: [] for name in traces(second)}
    try:
        second.up()
        assert traces(second)["processes"]
        assert traces(second)["cgroups"]
        if ending == "by a crash":
            pid = second.first_process()
            assert pid
            os.kill(pid, signal.SIGKILL)
    finally:
        second.down()
        shutil.rmtree(cluster.paths.cache / "containerd" / second.cgroup)
    assert traces(second) == clean
    second.down()
