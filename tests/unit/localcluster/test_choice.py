"""Which cluster `make up` takes, and what kind is asked for."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from localcluster.__main__ import choose
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.kind.cluster import KindCluster
from localcluster.paths import REPOSITORY


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH that holds nothing but what the test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CREDIT_RISK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_kind_is_taken_where_docker_answers_and_kind_is_installed(programs: Path) -> None:
    put(programs, "docker", "exit 0")
    put(programs, "kind", "exit 0")
    assert isinstance(choose("auto"), KindCluster)


@pytest.mark.parametrize(("docker", "kind"), [("exit 1", "exit 0"), ("exit 0", ""), ("", "exit 0"), ("", "")])
def test_the_embedded_one_is_taken_elsewhere(programs: Path, docker: str, kind: str) -> None:
    for name, script in (("docker", docker), ("kind", kind)):
        if script:
            put(programs, name, script)
    assert isinstance(choose("auto"), EmbeddedCluster)


def test_either_can_be_forced(programs: Path) -> None:
    assert isinstance(choose("kind"), KindCluster)
    assert isinstance(choose("embedded"), EmbeddedCluster)


def test_kind_is_started_once_with_the_hosts_ports_and_the_same_ingress_controller(programs: Path) -> None:
    put(programs, "kind", f'''
case "$1 $2" in
  "get clusters") [ -e {programs}/clusters ] && echo credit-risk; true ;;
  "create cluster") while [ $# -gt 0 ]; do [ "$1" = --config ] && read_from=$2; shift; done
                    while IFS= read -r line; do echo "$line"; done < "$read_from" >> {programs}/config
                    echo credit-risk > {programs}/clusters ;;
esac''')  # fmt: skip
    cluster = choose("kind")
    cluster.paths.tools.mkdir(parents=True, exist_ok=True)
    for name in ("helm", "kubectl"):
        put(cluster.paths.tools, name, f'echo "$@" >> {programs}/applied')
    cluster.up()
    cluster.up()
    (document,) = yaml.safe_load_all((programs / "config").read_text())
    (node,) = document["nodes"]
    mapped = {mapping["containerPort"]: mapping["hostPort"] for mapping in node["extraPortMappings"]}
    assert mapped == {8080: cluster.ports.http, 5000: cluster.ports.mlflow}
    assert {mapping["listenAddress"] for mapping in node["extraPortMappings"]} == {"127.0.0.1"}
    assert "traefik.yaml" in (programs / "applied").read_text()


def test_kinds_ingress_controller_fits_the_newest_schemas() -> None:
    version = kubernetes_validate.latest_version().rpartition(".")[0]
    for document in yaml.safe_load_all((REPOSITORY / "cluster/kind/traefik.yaml").read_text()):
        kubernetes_validate.validate(document, version, strict=True)
