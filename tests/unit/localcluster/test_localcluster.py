"""The parts of the local cluster that need no cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path

import pytest
import yaml

from localcluster import images, packages
from localcluster.console import ClusterError, CommandError, run, wait_for
from localcluster.embedded import cluster as embedded_cluster
from localcluster.embedded import pki
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.embedded.node import Part, Plan
from localcluster.packages import Archive
from localcluster.paths import Paths
from localcluster.ports import Ports


def test_ports_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RISK_HTTP_PORT", "18080")
    ports = Ports.from_environment()
    assert (ports.http, ports.mlflow, ports.kubernetes) == (18080, 5000, 6443)


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1"])
def test_a_port_that_is_none_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDIT_RISK_MLFLOW_PORT", text)
    with pytest.raises(ClusterError, match=r"CREDIT_RISK_MLFLOW_PORT .* 1 to 65535"):
        Ports.from_environment()


def test_an_images_name_follows_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "REPOSITORY", tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "src").mkdir()
    source = tmp_path / "src" / "a.py"
    source.write_text("1")
    image = images.Image("x", "Dockerfile", ("src",))
    before = image.reference("base")
    assert image.reference("base") == before
    assert image.reference("other base") != before
    source.write_text("2")
    assert image.reference("base") != before
    source.write_text("1")
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_text("compiled")
    assert image.reference("base") == before


def test_a_download_that_is_not_the_pinned_one_is_removed(tmp_path: Path) -> None:
    paths = Paths(cache=tmp_path, state=tmp_path)
    paths.downloads.mkdir()
    (paths.downloads / "x.tgz").write_bytes(b"tampered")
    with pytest.raises(ClusterError, match="pinned is aa"):
        packages.fetch(Archive("npm", "x", "1", "x.tgz", "aa", ()), paths, tmp_path / "log")
    assert not (paths.downloads / "x.tgz").exists()


def test_a_failed_program_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(CommandError, match=r"ended with 3(.|\n)*no luck(.|\n)*read .*log"):
        run(["sh", "-c", "echo no luck >&2; exit 3"], log)


def test_a_missing_program_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="`no-such-program` is not installed"):
        run(["no-such-program"], tmp_path / "log")


def test_waiting_ends_with_what_was_missing_last() -> None:
    answers = iter(["first", "second", None])
    wait_for("it", lambda: next(answers), timeout_seconds=5)
    with pytest.raises(ClusterError, match="it not ready after 0 s: still away"):
        wait_for("it", lambda: "still away", timeout_seconds=0)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    part = Part("etcd", ["etcd"], {"A": "b"}, 2379)
    plan = Plan("host", "10.0.0.1", "logs", "status", {"a": "b"}, [3], [part, Part("x", ["y"])])
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_a_kubeconfig_holds_all_it_needs_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path / "pki")
    file = authority.kubeconfig(tmp_path / "kubeconfig", pki.Identity("me", ("admins",)), "https://127.0.0.1:1")
    document = yaml.safe_load(file.read_text())
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert set(document["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert file.stat().st_mode & 0o077 == 0
    assert all(key.stat().st_mode & 0o077 == 0 for key in (tmp_path / "pki").glob("*.key"))


def test_pins_are_whole() -> None:
    for archive in (packages.HELM_AND_KUBECTL, packages.COREDNS, packages.TRAEFIK, packages.SEAWEEDFS):
        assert len(archive.sha256) == 64, json.dumps(dataclasses.asdict(archive))


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedCluster:
    """An embedded cluster that was never started, on a machine that could run it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(embedded_cluster, "_available_memory_gib", lambda: 16.0)
    monkeypatch.setattr(embedded_cluster, "NEEDED_DISK_GIB", 0)
    monkeypatch.setattr(embedded_cluster, "OS_RELEASE", tmp_path / "os-release")
    (tmp_path / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    return EmbeddedCluster(Paths(tmp_path / "cache", tmp_path / "state"), Ports(*(_free_port() for _ in range(3))))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_taken_port_is_named_with_the_variable_that_moves_it(embedded: EmbeddedCluster) -> None:
    with (
        socket.create_server(("127.0.0.1", embedded.ports.http)),
        pytest.raises(ClusterError, match=rf"port {embedded.ports.http} .* taken; set CREDIT_RISK_HTTP_PORT"),
    ):
        embedded.up()
    assert not embedded.paths.state.exists()
    assert not embedded.paths.cache.exists()


def test_everything_that_a_machine_lacks_is_said_together_before_anything_is_changed(
    embedded: EmbeddedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(embedded_cluster, "_available_memory_gib", lambda: 1.5)
    monkeypatch.setattr(embedded_cluster, "NEEDED_DISK_GIB", 10**9)
    (tmp_path / "os-release").write_text("VERSION_CODENAME=noble\n")
    with pytest.raises(ClusterError) as caught:
        embedded.up()
    told = str(caught.value)
    assert "needs root" in told
    assert "Debian 12" in told
    assert "1.5 GiB of memory are free, 5 are needed" in told
    assert "GiB of disk are free" in told
    assert not embedded.paths.state.exists()


def test_what_is_half_dead_is_known_by_its_missing_first_process(embedded: EmbeddedCluster) -> None:
    (embedded.paths.state / "node").mkdir(parents=True)
    (embedded.paths.state / "node.json").write_text("{}")
    assert not embedded.running()
    assert embedded.status()
    embedded.down()
    assert not embedded.paths.state.exists()
