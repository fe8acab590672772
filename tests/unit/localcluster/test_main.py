"""Which cluster `make up` chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster.__main__ import choose
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.kind.cluster import KindCluster
from unit.localcluster.fakes import put


def test_kind_is_chosen_if_docker_is_running_and_kind_is_installed(programs: Path) -> None:
    put(programs, "docker", "exit 0")
    put(programs, "kind", "exit 0")
    assert isinstance(choose("auto"), KindCluster)


@pytest.mark.parametrize(("docker", "kind"), [("exit 1", "exit 0"), ("exit 0", ""), ("", "exit 0"), ("", "")])
def test_otherwise_the_embedded_cluster_is_chosen(programs: Path, docker: str, kind: str) -> None:
    for name, script in (("docker", docker), ("kind", kind)):
        if script:
            put(programs, name, script)
    assert isinstance(choose("auto"), EmbeddedCluster)


def test_either_can_be_forced(programs: Path) -> None:
    assert isinstance(choose("kind"), KindCluster)
    assert isinstance(choose("embedded"), EmbeddedCluster)
