"""From segments into a real Postgres: each decision once, in the order of its log, whatever happens in between."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from decisions.shipping.database import AwayError, Database
from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter, event, singles
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running


def test_decisions_arrive_once_while_the_log_is_written(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    for counts in ([1, 3], [2], [], [5, 1]):
        log.write_groups(counts)
        running.turn()
        assert_each_once(database, log)
    assert running.health.ready() == (200, "ready\n")
    assert running.metric("records_total") == 12
    assert log.file.exists()


def test_segments_are_deleted_once_complete_and_the_folder_when_the_service_is_gone(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    log.write_groups([2])
    first = log.file
    log.rotate()
    log.write_groups([3])
    running.turn()
    assert not list(first.parent.glob(first.name + "*"))
    assert log.file.exists()
    log.close()
    running.turn()
    assert not log.path.exists()
    assert not log.path.parent.exists()
    assert_each_once(database, log)


def test_a_batch_of_many_rows_and_two_versions_arrive(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    log.write(event(5_001), event(3), event())
    running.turn()
    assert_each_once(database, log)
    assert database.count("model_versions") == 1


def test_requests_that_share_an_event_keep_their_own(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    log.write(singles(300), event(2), singles(1))
    running.turn()
    assert_each_once(database, log)
    rows = database.records()[:300]
    assert [row.row for row in rows] == [0] * 300
    assert len({row.request_id for row in rows}) == 300
    assert [row.latency_us for row in rows] == list(range(300))
    assert [row.reasons for row in rows[:3]] == [None, ["R01"], None]
    assert [row.role for row in rows[:2]] == ["champion", "fall-back"]
    assert {row.client for row in rows} == {"branch-0", "branch-1", "branch-2"}


def test_what_a_killed_service_left_in_its_write_ahead_log_is_shipped(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    log.write_groups([4, 2])
    log.die()
    running.turn()
    assert_each_once(database, log)
    assert not log.path.exists()


@pytest.mark.parametrize("lost", [False, True])
def test_a_restart_goes_on_also_if_the_local_state_is_lost(
    database: DecisionsDatabase, running: Running, log: LogWriter, tmp_path: Path, *, lost: bool
) -> None:
    log.write_groups([3, 2])
    running.turn()
    running.stop()
    if lost:
        (log.path / "shipped.json").write_bytes(b"")
    log.write_groups([1, 4])
    again = Running(tmp_path, database.url)
    again.turn()
    assert_each_once(database, log)
    again.stop()


def test_a_log_that_another_shipper_ships_too_is_shipped_once(
    database: DecisionsDatabase, running: Running, log: LogWriter, tmp_path: Path
) -> None:
    """As on a volume without locks: both believe that the log is theirs."""
    other = Running(tmp_path, database.url)
    log.write_groups([1])
    running.turn()
    (log.path / "shipper.lock").unlink()
    for counts in ([2, 1], [3], [1, 1]):
        log.write_groups(counts)
        other.turn()
        running.turn()
    assert_each_once(database, log)
    assert len(other.shipper._own) == len(running.shipper._own) == 1
    other.stop()


def test_a_log_is_claimed_by_one_shipper_and_taken_over_when_its_pod_is_gone(
    database: DecisionsDatabase, running: Running, log: LogWriter, tmp_path: Path
) -> None:
    neighbor = Running(tmp_path, database.url, pod="scoring-b")
    log.write_groups([2])
    neighbor.turn()
    assert not database.count()
    log.close()
    neighbor.shipper._claim_logs()
    running.turn()
    assert not database.count()
    neighbor.turn()
    assert_each_once(database, log)
    neighbor.stop()


def test_postgres_away_is_told_counted_and_made_up_for(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    log.write_groups([1])
    running.turn()
    database.server.stop()
    try:
        log.write_groups([2])
        running.turn()
        status, text = running.health.ready()
        assert status == 503
        assert "Postgres cannot be reached" in text
        assert running.health.live()[0] == 200
        assert running.metric("failures_total", cause="unreachable") == 1
        running.shipper._observed = 0
        running.shipper._observe()
        assert (running.metric("waiting_bytes") or 0) > 100
        assert 0 <= (running.metric("oldest_waiting_seconds") or -1) < 60
    finally:
        database.server.start()
    running.turn()
    assert_each_once(database, log)
    assert running.health.ready()[0] == 200
    running.shipper._observed = 0
    running.shipper._observe()
    assert running.metric("waiting_bytes") == running.metric("oldest_waiting_seconds") == 0


def test_a_read_only_postgres_is_told_and_left_for_another(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    log.write_groups([1])
    running.turn()
    database.server.refuse_writes()
    try:
        log.write_groups([1])
        running.turn()
        assert "accepts no writes" in running.health.ready()[1]
        assert running.metric("failures_total", cause="read-only") == 1
        running.turn()
        assert "read-only" in running.health.ready()[1] or "read-write" in running.health.ready()[1]
    finally:
        database.server.accept_writes()
    running.turn()
    assert_each_once(database, log)


@pytest.mark.parametrize(
    ("break_it", "mend_it", "cause", "words"),
    [
        ("REVOKE INSERT ON decisions FROM decisions_writer", "GRANT INSERT ON decisions TO decisions_writer",
         "permission", "the role may not write"),
        ("ALTER TABLE decisions DETACH PARTITION decisions_default",
         "ALTER TABLE decisions ATTACH PARTITION decisions_default DEFAULT",
         "partition", "no partition takes a decision of that time"),
        ("ALTER TABLE decision_inputs RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO decision_inputs",
         "schema", "lacks a table"),
        ("ALTER ROLE decisions_writer NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
         "WHERE usename = 'decisions_writer'",
         "ALTER ROLE decisions_writer LOGIN", "unreachable", "Postgres cannot be reached"),
    ],
)  # fmt: skip
def test_what_the_database_lacks_is_told_in_words_and_nothing_is_lost(
    database: DecisionsDatabase, running: Running, log: LogWriter, break_it: str, mend_it: str, cause: str, words: str
) -> None:
    log.write_groups([1])
    running.turn()
    with database.connect() as connection:
        for statement in break_it.split("; "):
            connection.execute(statement)
    try:
        log.write_groups([2])
        for _ in range(2):
            running.turn()
        assert words in running.health.ready()[1]
        assert (running.metric("failures_total", cause=cause) or 0) >= 1
    finally:
        with database.connect() as connection:
            connection.execute(mend_it)
    running.turn()
    assert_each_once(database, log)


def test_the_writers_role_needs_no_right_to_read(database: DecisionsDatabase) -> None:
    shipper = Database(lambda: database.url)
    with pytest.raises(AwayError, match="permission denied"), shipper._errors() as connection:
        connection.execute("SELECT * FROM decisions")
    shipper.close()


def test_the_end_waits_for_the_service_and_ships_what_it_wrote_last(
    database: DecisionsDatabase, running: Running, log: LogWriter
) -> None:
    stop = threading.Event()
    stop.set()
    log.write_groups([2])

    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(running.shipper.run(stop, 20)))
    thread.start()
    thread.join(1)
    assert thread.is_alive()
    log.write_groups([3])
    log.close()
    thread.join(10)
    assert ended == [True]
    assert_each_once(database, log)


def test_the_end_tells_of_what_it_leaves_behind(running: Running, log: LogWriter, database: DecisionsDatabase) -> None:
    log.write_groups([1])
    stop = threading.Event()
    stop.set()
    database.server.stop()
    try:
        assert not running.shipper.run(stop, 1)
    finally:
        database.server.start()
    assert log.file.exists()
