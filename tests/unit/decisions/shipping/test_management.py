"""The shipper's management port over HTTP, and the process that the pod's second container runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import REPOSITORY
from decisions.errors import DecisionsError
from decisions.shipping import metrics
from decisions.shipping.management import management_port
from processes import free_port
from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter, singles
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running


@pytest.fixture
def port(running: Running) -> Iterator[str]:
    """The address of the port of a shipper that did nothing yet."""
    with management_port(0, running.health, running.metrics.registry) as number:
        yield f"http://127.0.0.1:{number}"


def get(address: str) -> tuple[int, str]:
    answer = httpx.get(address)
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.status_code, answer.text


def test_probes_and_metrics_tell_what_the_shipper_does(running: Running, log: LogWriter, port: str) -> None:
    assert get(f"{port}/healthz") == (200, "ok\n")
    assert get(f"{port}/readyz") == (503, "starting\n")
    log.write(singles(3))
    running.turn()
    assert get(f"{port}/readyz?verbose") == (200, "ready\n")
    answer = httpx.get(f"{port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "decisions_shipper_records_total 3.0" in answer.text.splitlines()
    assert 'decisions_shipper_damaged_total{part="group"} 0.0' in answer.text.splitlines()


def test_a_shipper_without_postgres_is_alive_and_says_why_it_is_not_ready(
    database: DecisionsDatabase, running: Running, log: LogWriter, port: str
) -> None:
    log.write(singles(1))
    database.server.stop()
    try:
        running.turn()
        status, text = get(f"{port}/readyz")
        assert (status, get(f"{port}/healthz")[0]) == (503, 200)
        assert text.startswith("Postgres cannot be reached: ")
        assert 'decisions_shipper_failures_total{cause="unreachable"} 1.0' in get(f"{port}/metrics")[1].splitlines()
    finally:
        database.server.start()
    running.turn()
    assert get(f"{port}/readyz") == (200, "ready\n")


def test_a_loop_that_is_stuck_is_not_alive(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_STUCK_SECONDS", 0)
    time.sleep(0.01)
    status, text = get(f"{port}/healthz")
    assert status == 503
    assert text.startswith("the loop has not turned for ")


def test_other_paths_and_methods_are_refused_and_a_slow_client_holds_up_nobody(port: str) -> None:
    assert get(f"{port}/decisions") == (404, "not found\n")
    assert httpx.post(f"{port}/healthz").status_code == 501
    host, _, number = port.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(number))) as silent:
        silent.sendall(b"GET /hea")
        assert get(f"{port}/healthz") == (200, "ok\n")


def test_a_port_that_is_taken_is_told(running: Running, port: str) -> None:
    number = int(port.rpartition(":")[2])
    with (
        pytest.raises(DecisionsError, match=f"the management port {number} cannot be opened: .*in use"),
        management_port(number, running.health, running.metrics.registry),
    ):
        pytest.fail("the port was opened twice")


@contextlib.contextmanager
def process(logs: Path, url: str, number: int) -> Iterator[subprocess.Popen[str]]:
    """Run `python -m decisions ship`."""
    environment = {
        **os.environ, "PYTHONPATH": str(REPOSITORY / "images/decisions/src"), "DECISIONS_DATABASE_URL": url,
        "DECISIONS_LOG_DIR": str(logs), "DECISIONS_POD_NAME": "scoring-a", "DECISIONS_MANAGEMENT_PORT": str(number),
        "DECISIONS_SHUTDOWN_SECONDS": "20",
    }  # fmt: skip
    command = [sys.executable, "-m", "decisions", "ship"]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_the_process_ships_is_ready_and_ends_with_the_service(
    database: DecisionsDatabase, log: LogWriter, tmp_path: Path
) -> None:
    number = free_port()
    log.write(singles(4))
    with process(tmp_path, database.url, number) as child:
        until(lambda: get(f"http://127.0.0.1:{number}/readyz") == (200, "ready\n"))
        until(lambda: database.count() == 4)
        child.send_signal(signal.SIGTERM)
        # The service ends at the same time, and still writes.
        log.write(singles(2))
        log.close()
        assert child.wait(30) == 0
    assert_each_once(database, log)


def until(true: object, seconds: float = 30) -> None:
    """Wait until something is true; what cannot be asked yet is not."""
    assert callable(true)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if true():
                return
        time.sleep(0.05)
    pytest.fail(f"not true within {seconds:.0f} seconds")
