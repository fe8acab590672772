"""What becomes of Postgres while decisions are shipped to it: none is lost, and none is there twice."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from decisions.records.record import ChainedRecord
from decisions.shipping import database as postgres
from postgres import Postgres
from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter, event, singles
from unit.decisions.shipping.cut_answers import commits_untold
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'decisions_writer'"
INPUTS = ("ALTER TABLE decision_inputs_default", "ALTER INDEX decision_inputs_default_pkey")


def run(database: DecisionsDatabase, *statements: str) -> None:
    """Run statements as a superuser."""
    with database.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def at_each_copy(monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None]) -> None:
    """Call `then` with the number of each COPY of a chunk, when its records are sent and not committed."""
    original, numbers = postgres._copy, count(1)

    def copy(*arguments: object) -> list[ChainedRecord]:
        written: list[ChainedRecord] = original(*arguments)  # type: ignore[arg-type]
        then(next(numbers))
        return written

    monkeypatch.setattr(postgres, "_copy", copy)


def test_connections_that_are_cut_before_the_commit_leave_nothing_half_done(
    database: DecisionsDatabase, running: Running, log: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(singles(50), event(7))
    at_each_copy(monkeypatch, lambda number: run(database, CUT) if number in {1, 2, 4} else None)
    for _ in range(3):
        running.turn()
    # The third attempt was not cut; the fourth was that of the next group.
    log.write(singles(3))
    for _ in range(2):
        running.turn()
    assert_each_once(database, log)
    assert running.metric("failures_total", cause="unreachable") == 3
    assert running.health.ready()[0] == 200


def test_connections_that_are_cut_at_any_time_lose_nothing(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    ended = threading.Event()

    def cut() -> None:
        while not ended.wait(0.02):
            run(database, CUT)

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        for _ in range(40):
            log.write(singles(20))
            running.turn()
    finally:
        ended.set()
        cutting.join()
    assert running.metric("failures_total", cause="unreachable")
    running.turn()
    assert_each_once(database, log)


def test_a_commit_whose_answer_is_lost_is_not_repeated(
    database: DecisionsDatabase, tmp_path: Path, log: LogWriter
) -> None:
    with commits_untold(database.server.port) as proxy:
        url = database.url.replace(f":{database.server.port}/", f":{proxy.port}/")
        running = Running(tmp_path, url)
        log.write(singles(5))
        running.turn()
        proxy.armed.set()
        log.write(singles(4), event(2))
        running.turn()
        assert not proxy.armed.is_set()
        assert running.metric("failures_total", cause="unreachable") == 1
        # It is there, and the shipper does not know.
        assert database.count() == 11
        log.write(singles(3))
        running.turn()
        assert running.metric("damaged_total", part="group") == 0
        running.stop()
    assert_each_once(database, log)


def test_a_statement_that_takes_too_long_is_told_as_such_and_tried_again(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    run(database, "ALTER ROLE decisions_writer SET statement_timeout = '300ms'")
    try:
        log.write(singles(5))
        with database.connect() as connection, connection.transaction():
            connection.execute("LOCK TABLE decisions IN EXCLUSIVE MODE")
            running.turn()
            assert running.metric("failures_total", cause="timeout") == 1
            assert (
                "Postgres took longer than it may: canceling statement due to statement timeout"
                in (running.health.ready()[1])
            )
        running.turn()
    finally:
        run(database, "ALTER ROLE decisions_writer RESET statement_timeout")
    assert_each_once(database, log)


@pytest.fixture
def small_disk(database: DecisionsDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 4 MB that has the inputs' table."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = Path(database.server.folder).parent / "small-disk"
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr}")
    try:
        Postgres._give(folder)
        run(
            database, f"CREATE TABLESPACE small LOCATION '{folder}'", *(f"{one} SET TABLESPACE small" for one in INPUTS)
        )
        yield folder
        run(database, *(f"{one} SET TABLESPACE pg_default" for one in INPUTS), "DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_of_postgres_is_told_and_shipping_goes_on_once_there_is_room(
    database: DecisionsDatabase, running: Running, log: LogWriter, small_disk: Path
) -> None:
    log.write(singles(2))
    running.turn()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    # More than fits into the pages that the table has.
    log.write(singles(300), singles(200))
    for _ in range(2):
        running.turn()
    assert running.metric("failures_total", cause="disk-full") == 2
    assert "the disk of Postgres is full" in running.health.ready()[1]
    assert database.count() == 2
    filler.unlink()
    running.turn()
    assert_each_once(database, log)
    assert running.health.ready()[0] == 200


def test_after_a_failover_the_new_primary_gets_what_the_old_one_did_not(
    database: DecisionsDatabase, tmp_path: Path, log: LogWriter
) -> None:
    primary = database.server
    standby = Postgres(primary.folder.parent / "standby", primary.programs)
    standby.follow(primary)
    try:
        # Both in one URL, as for a Postgres with a standby.
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
        running = Running(tmp_path, database.url.replace(f"127.0.0.1:{primary.port}", hosts))
        log.write(singles(5))
        running.turn()
        assert database.count() == 5
        wait_for_standby(database)
        primary.stop()
        try:
            log.write(singles(4), event(3))
            running.turn()
            assert running.health.ready()[0] == 503
            standby.promote()
            running.turn()
            assert running.health.ready()[0] == 200
            assert_each_once(DecisionsDatabase(standby), log)
            log.write(singles(2))
            running.turn()
            assert_each_once(DecisionsDatabase(standby), log)
        finally:
            running.stop()
            primary.start()
    finally:
        standby.stop()


def wait_for_standby(database: DecisionsDatabase) -> None:
    """Wait until the standby has all that the server has written."""
    with database.connect() as connection:
        (written,) = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchall()[0]
        for _ in range(1000):
            behind = connection.execute(
                "SELECT 1 FROM pg_stat_replication WHERE coalesce(replay_lsn, '0/0') >= %s::pg_lsn", [written]
            ).fetchall()
            if behind:
                return
            connection.execute("SELECT pg_sleep(0.01)")
    pytest.fail("the standby did not catch up within 10 seconds")
