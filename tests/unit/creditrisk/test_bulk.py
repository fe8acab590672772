"""`creditrisk bulk score` runs bulk scoring where it is installed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from creditrisk.installed import BULK
from shell import Shell
from unit.creditrisk.test_commands import shell
from unit.creditrisk_scoring.applications import write_input
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import write_model

__all__ = ["shell"]


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "model").mkdir()
    model = write_model(tmp_path / "model", **GRADED_CONTRACT)
    source = write_input(tmp_path / "in", {"a.parquet": 1_500})
    return ["score", str(source), str(tmp_path / "out"), "--model", str(model), "--shard-rows", "500"]


def test_a_folder_is_scored_and_the_summary_is_for_programs(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "creditrisk", "bulk", *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["rows"], summary["shards"]) == (1_500, 3)
    assert "3 of 3 shards are done" in ended.stderr


def test_what_is_missing_is_named(shell: Shell, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else object())
    ended = shell("bulk", *arguments)
    assert ended.code == 2
    assert "not installed: onnxruntime; pip install 'credit-risk-platform[cli,bulk]'" in ended.err


def test_a_terminal_shows_how_far_it_is_and_how_far_it_was(arguments: list[str]) -> None:
    reader, terminal = pty.openpty()
    try:
        command = [sys.executable, "-m", BULK.module, *arguments]
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=terminal).returncode == 0
        shown = os.read(reader, 1 << 16).decode()
        status = [sys.executable, "-m", "creditrisk", "bulk", "status", arguments[2]]
        assert subprocess.run(status, stdout=terminal).returncode == 0
        then = os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)
        os.close(terminal)
    assert "3 of 3 shards" in shown
    assert "100%" in shown
    assert "█ 100%" in then
    assert "done: 3 of 3 shards, 1,500 of 1,500 rows read" in then
