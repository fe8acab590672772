"""Which cluster `make up` chooses, and which files it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from localcluster.__main__ import choose, main
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none.csv"], "DATA=none.csv: no such file"),
        (["--data", "loans.csv", "--features", "none.json"], "FEATURES=none.json: no such file"),
        (["--features", "features.json"], "FEATURES needs DATA"),
        (["--decisions", "always"], "DECISIONS=always: must be one of off, log, require"),
        (["--monitoring", "yes"], "MONITORING=yes: must be 1 or 0"),
    ],
)
def test_up_refuses_files_that_it_cannot_use_before_it_starts_anything(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("loans.csv", "features.json"):
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "argv", ["localcluster", "--cluster", "embedded", "up", *arguments])
    assert main() == 1
    assert f"FAILED: {message}" in capfd.readouterr().err


def test_images_refuses_a_mode_of_the_decision_log_that_there_is_not_before_it_builds(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["localcluster", "--cluster", "kind", "images", "--decisions", "always"])
    assert main() == 1
    assert "FAILED: DECISIONS=always: must be one of off, log, require" in capfd.readouterr().err
