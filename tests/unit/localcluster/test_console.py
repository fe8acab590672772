from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from localcluster import console
from localcluster.console import ClusterError, CommandError, run, step, wait_for


def test_a_failed_program_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(CommandError, match=r"failed with exit code 3(.|\n)*no luck(.|\n)*full log: .*log"):
        run(["sh", "-c", "echo no luck >&2; exit 3"], log)


def test_a_missing_program_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="`no-such-program` is not installed"):
        run(["no-such-program"], tmp_path / "log")


def test_waiting_ends_when_there_is_no_problem_left() -> None:
    problems = iter(["first", "second", None])
    wait_for("it", lambda: next(problems), timeout_seconds=5)
    assert list(problems) == []


def test_waiting_in_vain_reports_the_last_problem_and_the_log(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=rf"it was not ready within 0 s: still away\n  log: {tmp_path}"):
        wait_for("it", lambda: "still away", timeout_seconds=0, log=tmp_path)


def test_a_step_reports_that_it_is_still_running_and_how_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.05)
    said = ""
    with step("Boil water", tmp_path / "kettle.log"):
        deadline = time.monotonic() + 30
        while "still running" not in said and time.monotonic() < deadline:
            said += capsys.readouterr().out
    first, second, *_, last = (said + capsys.readouterr().out).splitlines()
    assert first == "-> Boil water"
    assert second == f"   … Boil water: still running after 0 s (log: {tmp_path}/kettle.log)"
    assert re.fullmatch(r"   done in \d+\.\d s", last)


def test_a_failed_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ClusterError, match="Boil water: no water"), step("Boil water"):
        raise ClusterError("no water")
    assert "done" not in capsys.readouterr().out
