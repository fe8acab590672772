"""`creditrisk` against a running service: what people read, what programs read, and exit codes."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from conftest import REPOSITORY
from creditrisk.__main__ import main
from shell import Shell
from unit.decisions.service.process import Process, running_process
from unit.decisions.service.site import Site, key_of

JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)


@pytest.fixture
def process(site: Site) -> Iterator[Process]:
    with running_process(site.settings()) as found:
        yield found


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    for name in ("CREDITRISK_URL", "CREDITRISK_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Shell(monkeypatch, capsys, "creditrisk", main, ("--json",))


@pytest.fixture
def creditrisk(shell: Shell, process: Process, tmp_path: Path) -> Shell:
    key = tmp_path / "key"
    key.write_text("k-all\n")
    shell.patch.setenv("CREDITRISK_URL", process.url)
    shell.patch.setenv("CREDITRISK_KEY_FILE", str(key))
    return shell


def test_decisions_are_read(site: Site, creditrisk: Shell) -> None:
    made = [site.decide(JANUARY, applicant_id=f"a-{number}", reasons=["R01"]) for number in range(7)]
    newest = str(made[-1])
    shown = creditrisk("decisions", "get", newest)
    assert shown.code == 0
    for words in (f"approve {newest}", "R01", "credit-risk 7 (champion)", "a-6", "46995.17", "01" * 32):
        assert words in shown.out
    assert creditrisk.json("decisions", "get", newest)["decision_id"] == newest
    listed = creditrisk("decisions", "list", "--limit", "3")
    assert [line.split()[0] for line in listed.out.splitlines()[1:4]] == [str(wanted) for wanted in made[:-4:-1]]
    cursor = listed.out.split("--cursor ")[1].strip()
    rest = creditrisk.json("decisions", "list", "--cursor", cursor)
    assert [decision["decision_id"] for decision in rest["decisions"]] == [str(wanted) for wanted in made[3::-1]]
    assert rest["next_cursor"] is None
    assert creditrisk("decisions", "list", "--to", "2026-01-01").out == "no decisions\n"


def test_what_clients_sent_cannot_drive_the_terminal(site: Site, creditrisk: Shell) -> None:
    wanted = site.decide(JANUARY, applicant_id="\x1b[2Jred[bold]\u202e")
    shown = creditrisk("decisions", "get", str(wanted))
    assert "\ufffd[2Jred[bold]\ufffd" in shown.out
    assert "\x1b" not in shown.out


def test_an_applicant_is_forgotten_only_when_that_is_confirmed(
    site: Site, creditrisk: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = site.decide(JANUARY, applicant_id="a/1")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert creditrisk("decisions", "forget", "a/1").code == 1
    assert creditrisk.json("decisions", "get", str(wanted))["forgotten"] is False
    assert creditrisk("decisions", "forget", "a/1", "--yes").out == "the inputs of 1 decisions were deleted\n"
    assert creditrisk.json("decisions", "get", str(wanted))["forgotten"] is True
    assert "(forgotten)" in creditrisk("decisions", "get", str(wanted)).out


def test_outcomes_are_loaded_and_rejected_rows_make_the_exit_code_4(
    site: Site, creditrisk: Shell, tmp_path: Path
) -> None:
    wanted = site.decide(JANUARY)
    file = tmp_path / "outcomes.csv"
    file.write_text(f"decision_id,outcome,observed_at\n{wanted},repaid,2026-05-01\n")
    assert creditrisk("outcomes", "load", str(file)).out == "1 added, 0 known already, 0 rejected\n"
    assert creditrisk.json("outcomes", "load", str(file))["known"] == 1
    file.write_text("decision_id,outcome,observed_at\nx,repaid,2026-05-01\n")
    ended = creditrisk("outcomes", "load", str(file))
    assert ended.code == 4
    assert "1    decision_id is 'x'; allowed: a UUID" in ended.out
    file.write_text("nonsense\n")
    refused = creditrisk("outcomes", "load", str(file))
    assert (refused.code, "the first line must be the header" in refused.err) == (4, True)
    assert creditrisk("outcomes", "load", str(tmp_path / "absent.csv")).code == 2
    assert creditrisk("outcomes", "load", str(tmp_path / "outcomes.txt")).code == 2


def test_a_timeline_is_read(process: Process, creditrisk: Shell) -> None:
    for number, canary, weight in ((1, None, 0), (2, "8", 5)):
        event = {"event_id": str(number), "happened_at": f"2026-01-0{number}T00:00:00Z", "kind": "WeightChanged",
                 "stable_version": "7", "canary_version": canary, "weight": weight, "moved_by": "alice"}  # fmt: skip
        sent = httpx.post(f"{process.url}/v1/models/credit-risk/timeline", json=event, headers=key_of("operator"))
        assert sent.status_code == 200
    shown = creditrisk("timeline", "credit-risk").out.splitlines()
    assert shown[-1].split()[-4:] == ["7", "8", "5", "%"]
    assert "now" in shown[-1]
    assert "alice" in creditrisk("timeline", "credit-risk", "--events").out
    assert len(creditrisk.json("timeline", "credit-risk")["periods"]) == 2
    absent = creditrisk("timeline", "other")
    assert (absent.code, absent.err) == (3, "nothing was reported about the model other\n")


def test_training_data_are_saved_and_counted(site: Site, creditrisk: Shell, tmp_path: Path) -> None:
    repaid = site.decide(datetime(2025, 3, 1, tzinfo=UTC))
    site.decide(datetime(2025, 3, 1, tzinfo=UTC), decision="decline")
    site.sql("INSERT INTO outcomes VALUES (%s, '2025-09-01', 'repaid', DEFAULT, 'test')", repaid)
    file = tmp_path / "training.parquet"
    saved = creditrisk("training-data", "--output", str(file), "--matured", "6m", "--target", "paid", "--repaid", "1")
    assert saved.code == 0
    assert "1 rejected applicants have no outcome" in saved.out
    assert pq.read_table(file).column("paid").to_pylist() == ["1"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    summary = creditrisk.json("training-data", "--matured", "6m")
    assert (summary["rows"], summary["rejected"], summary["digest"] in saved.out) == (1, 1, True)
    assert creditrisk("training-data", "--output", str(tmp_path / "x.xls")).code == 2
    assert creditrisk("training-data", "--output", str(tmp_path / "absent" / "x.csv"), "--matured", "6m").code == 1
    assert creditrisk("training-data", "--target", "income", "--matured", "6m").code == 4


def test_each_failure_has_its_exit_code_and_words(site: Site, process: Process, shell: Shell, tmp_path: Path) -> None:
    absent = f"{JANUARY:%Y}0000-0000-7000-8000-000000000000"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for options, arguments, code, words in [
        ([], ["decisions", "get", absent], 2, "set CREDITRISK_URL"),
        (["--url", process.url], ["decisions", "get", absent], 2, "a key is required"),
        (
            ["--url", process.url, "--key-file", str(tmp_path / "absent")],
            ["decisions", "list"],
            2,
            "cannot read the key",
        ),
        (["--url", process.url, "--key", "k-all"], ["decisions", "get", absent], 3, f"there is no decision {absent}"),
        (["--url", process.url, "--key", "k-all"], ["decisions", "get", "x"], 2, "valid UUID"),
        (
            ["--url", process.url, "--key", "k-all"],
            ["decisions", "list", "--role", "king"],
            4,
            "role is invalid; allowed",
        ),
        (["--url", process.url, "--key", "guessed"], ["decisions", "list"], 4, "unknown API key"),
        (
            ["--url", process.url, "--key", "k-stranger"],
            ["decisions", "list"],
            4,
            "lacks the permission decisions:read",
        ),
        (["--url", nobody, "--key", "k-all"], ["decisions", "list"], 5, f"cannot reach {nobody}"),
        (["--url", "nonsense", "--key", "k-all"], ["decisions", "list"], 2, "allowed: http://host:port"),
        (["--url", process.management_url, "--key", "k-all"], ["decisions", "list"], 5, "not as the decisions service"),
    ]:
        ended = shell(*options, *arguments)
        assert (ended.code, words in " ".join(ended.err.split())) == (code, True), ended.err


def test_verify_and_export_run_the_log_s_own_program_where_it_is_installed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    assert shell("decisions", "verify", "--from", "2026-01-01", "--json").code == 3
    assert shell("decisions", "export", "--from", "2026-01-01", "--output", "x.parquet").code == 3
    assert ran == [
        ["-m", "decisions", "verify", "--from", "2026-01-01", "--json"],
        ["-m", "decisions", "export", "--from", "2026-01-01", "--output", "x.parquet"],
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "psycopg" else object())
    ended = shell("decisions", "verify")
    assert ended.code == 2
    assert "not installed: psycopg; pip install 'credit-risk-platform[decisions]'" in ended.err


def test_it_is_a_program() -> None:
    command = [sys.executable, "-m", "creditrisk", "--help"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(REPOSITORY / "images/decisions/src")}
    )
    assert ended.returncode == 0
    assert "unreachable" in ended.stdout
