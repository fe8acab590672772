"""What the embedded cluster checks and removes without being started."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from localcluster.console import ClusterError
from localcluster.embedded import cluster as embedded_cluster
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.paths import Paths
from localcluster.ports import Ports
from processes import free_port


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedCluster:
    """An embedded cluster that was never started, on a machine that meets the requirements."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(embedded_cluster, "_available_memory_gib", lambda: 16.0)
    monkeypatch.setattr(embedded_cluster, "NEEDED_DISK_GIB", 0)
    monkeypatch.setattr(embedded_cluster, "OS_RELEASE", tmp_path / "os-release")
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    return EmbeddedCluster(Paths(tmp_path / "cache", tmp_path / "state"), Ports(*(free_port() for _ in range(3))))


def test_a_port_in_use_is_reported_with_the_variable_that_moves_it(embedded: EmbeddedCluster) -> None:
    with (
        socket.create_server(("127.0.0.1", embedded.ports.http)),
        pytest.raises(ClusterError, match=rf"port {embedded.ports.http} .* in use: set CREDIT_RISK_HTTP_PORT"),
    ):
        embedded.up()
    assert not embedded.paths.state.exists()
    assert not embedded.paths.cache.exists()


def test_all_unmet_requirements_are_reported_together_before_anything_is_changed(
    embedded: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(embedded_cluster, "_available_memory_gib", lambda: 1.5)
    monkeypatch.setattr(embedded_cluster, "NEEDED_DISK_GIB", 10**9)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=noble\n")
    with pytest.raises(ClusterError) as caught:
        embedded.up()
    message = str(caught.value)
    assert "needs root" in message
    assert "Debian 12" in message
    assert "1.5 GiB of memory available, 5 GiB needed" in message
    assert "GiB of disk space available" in message
    assert not embedded.paths.state.exists()


def test_a_node_without_its_first_process_is_not_running_and_can_be_removed(embedded: EmbeddedCluster) -> None:
    (embedded.paths.state / "node").mkdir(parents=True)
    (embedded.paths.state / "node.json").write_text("{}")
    assert not embedded.running()
    assert embedded.status() == ["embedded cluster: not running"]
    embedded.down()
    assert not embedded.paths.state.exists()
