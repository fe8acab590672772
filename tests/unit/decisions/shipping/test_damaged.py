"""What is damaged is told once, counted and kept, and does not hold up the rest."""

from __future__ import annotations

import os
from uuid import UUID

import msgspec
import pytest

from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter, event, new_id
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running


def damaged_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("damaged: ")]


def test_a_damaged_event_and_a_damaged_group_do_not_take_others_with_them(
    database: DecisionsDatabase, running: Running, log: LogWriter, caplog: pytest.LogCaptureFixture
) -> None:
    first = log.file
    log.write_groups([2])
    log.write_packed(b"\xc1 noise", 3)
    whole = event()
    broken = msgspec.structs.replace(event(), points=b"123")
    log.write_packed(msgspec.msgpack.encode([broken, whole]), 2)
    log.ids.append(UUID(bytes=whole.ids))
    log.write(event(), decisions=7)
    log.write_groups([1])
    log.rotate()
    log.write_groups([2])
    for _ in range(2):
        running.turn()
    assert_each_once(database, log)
    noise, points, length = damaged_lines(caplog)
    assert "group 2: not an array of events" in noise
    assert f"{first}: group 3: the event of request" in points
    assert "points has 3 bytes; int32 [1, 1] takes 4" in points
    assert "group 4: it has 1 decisions and says 7" in length
    assert running.metric("damaged_total", part="group") == 3
    assert [file.name for file in log.path.glob("*.damaged")] == ["segment-00000001.sqlite.damaged"]
    assert not first.exists()


@pytest.mark.parametrize("size", [0, 10, 100, 5000])
def test_a_segment_cut_short_is_set_aside_and_the_next_ones_are_shipped(
    database: DecisionsDatabase, running: Running, log: LogWriter, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    log.write_groups([2] * 30)
    cut = log.file
    log.ids.clear()
    log.rotate()
    log.write_groups([3])
    os.truncate(cut, size)
    for _ in range(2):
        running.turn()
    assert_each_once(database, log)
    assert len(damaged_lines(caplog)) == 1
    assert running.metric("damaged_total", part="segment") == 1
    assert cut.with_name(cut.name + ".damaged").exists()
    running.shipper._observed = 0
    running.shipper._observe()
    assert running.metric("set_aside_segments") == 1
    log.close()
    running.turn()
    assert log.path.exists()


def test_a_segment_of_another_log_is_not_taken_for_this_ones(
    database: DecisionsDatabase, running: Running, log: LogWriter, caplog: pytest.LogCaptureFixture
) -> None:
    log.execute("UPDATE log SET id = ?", bytes(16))
    log.write_groups([1])
    log.rotate()
    running.turn()
    assert not database.count()
    assert "it belongs to the log 00000000000000000000000000000000" in damaged_lines(caplog)[0]


def test_a_decision_whose_id_another_log_has_is_told_and_the_others_are_shipped(
    database: DecisionsDatabase, running: Running, log: LogWriter, caplog: pytest.LogCaptureFixture
) -> None:
    other = LogWriter(log.path.parent.parent)
    taken = new_id()
    log.write(event(first_id=taken))
    running.turn()
    other.write_groups([1])
    # In the middle of its group, so that the group's last id is new.
    other.write_packed(msgspec.msgpack.encode([event(first_id=taken), event()]), 2)
    other.write_groups([2])
    running.turn()
    assert_each_once(database, log, other)
    assert "group 2: Postgres refuses it: duplicate key" in damaged_lines(caplog)[0]
    other.close()
