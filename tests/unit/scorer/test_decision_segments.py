"""Segments: files as the agreement describes them, groups that are durable together, and what the disk does to them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import sqlite3
import uuid
from pathlib import Path

import msgspec
import pytest

from scorer.decision_log import writer as writer_module
from scorer.decision_log.folder import LogFolder, bytes_in
from scorer.decision_log.segment import Segment, Version
from scorer.decision_log.writer import FAILURES_FOR_NEW_SEGMENT, Group, SegmentWriter
from unit.scorer.decision_segments import AGREEMENT, POD, segments

EVENTS = msgspec.msgpack.encode([[b"id", "request"]])
VERSION = Version(1, "credit-risk", "7", {"model.onnx": "ab"}, b'{"format_version": 4}')


def group(size: int = 0) -> Group:
    return Group(1, EVENTS if not size else msgspec.msgpack.encode([b"x" * size]), (VERSION,))


def read(file: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


def schema(database: sqlite3.Connection) -> dict[str, str]:
    found = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
    return {name: re.sub(r"\s+", " ", re.sub(r"--.*", "", sql)) for name, sql in found}


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment(tmp_path / "segment-00000001.sqlite", uuid.UUID(int=7), POD)


def test_a_segment_has_the_agreed_tables_and_marks(segment: Segment, tmp_path: Path) -> None:
    agreed = sqlite3.connect(":memory:")
    agreed.executescript(AGREEMENT.read_text("utf-8"))
    with contextlib.closing(sqlite3.connect(tmp_path / "segment-00000001.sqlite")) as written:
        assert schema(written) == schema(agreed)
        for mark in ("application_id", "user_version"):
            assert written.execute(f"PRAGMA {mark}").fetchone() == agreed.execute(f"PRAGMA {mark}").fetchone()
        assert written.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    agreed.close()
    segment.close()


def test_a_segment_says_whose_it_is_and_names_each_version_once(segment: Segment, tmp_path: Path) -> None:
    for number in (1, 2):
        segment.write(number, 3, EVENTS, (VERSION,))
    segment.close()
    file = tmp_path / "segment-00000001.sqlite"
    assert read(file, "SELECT * FROM log") == [(uuid.UUID(int=7).bytes, POD)]
    assert read(file, "SELECT * FROM versions") == [
        (1, "credit-risk", "7", '{"model.onnx":"ab"}', b'{"format_version": 4}')
    ]
    assert read(file, "SELECT number, decisions, events FROM groups") == [(1, 3, EVENTS), (2, 3, EVENTS)]
    (first,), (second,) = read(file, "SELECT seed FROM groups")
    assert first != second


def test_another_process_reads_a_group_as_soon_as_it_is_written(segment: Segment, tmp_path: Path) -> None:
    segment.write(1, 1, EVENTS, (VERSION,))
    assert read(tmp_path / "segment-00000001.sqlite", "SELECT number FROM groups") == [(1,)]
    segment.close()


def test_a_full_disk_leaves_no_part_of_a_group_and_the_same_segment_takes_it_later(
    segment: Segment, tmp_path: Path
) -> None:
    database = segment._database
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        segment.write(1, 1, b"x" * 500_000, (VERSION,))
    assert read(tmp_path / "segment-00000001.sqlite", "SELECT * FROM versions") == []
    database.execute("PRAGMA max_page_count = 1000000")
    segment.write(1, 1, b"x" * 500_000, (VERSION,))
    segment.close()
    assert read(tmp_path / "segment-00000001.sqlite", "SELECT number, length(events) FROM groups") == [(1, 500_000)]


def test_a_log_holds_its_lock_for_its_whole_life(tmp_path: Path) -> None:
    folder = LogFolder(tmp_path / POD)
    with (folder.path / "lock").open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.close()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert uuid.UUID(folder.path.name) == folder.log_id


def test_two_processes_with_one_pod_name_write_to_logs_of_their_own(tmp_path: Path) -> None:
    one, other = (SegmentWriter(tmp_path, POD, 2**30) for _ in range(2))
    for writer in (one, other, one):
        assert writer.write(group()) is None
    assert len({file.parent for file in segments(tmp_path)}) == 2
    assert sorted(len(read(file, "SELECT number FROM groups")) for file in segments(tmp_path)) == [1, 2]
    one.close()
    other.close()


def test_a_segment_of_an_earlier_process_counts_to_the_limit_and_is_not_touched(tmp_path: Path) -> None:
    earlier = SegmentWriter(tmp_path, POD, 2**30)
    assert earlier.write(group(1_000_000)) is None
    earlier.close()
    (left,) = segments(tmp_path)
    before = left.read_bytes(), left.stat().st_mtime_ns
    writer = SegmentWriter(tmp_path, POD, 1_500_000)
    assert writer.write(group()) is None
    assert writer.bytes_on_disk > 1_000_000
    failure = writer.write(group(1_000_000))
    assert failure
    assert failure.cause == "segments-full"
    writer.close()
    assert (left.read_bytes(), left.stat().st_mtime_ns) == before


def test_a_full_segment_is_followed_by_another_one_and_groups_are_numbered_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SEGMENT_BYTES", 200_000)
    writer = SegmentWriter(tmp_path, POD, 2**30)
    for _ in range(7):
        assert writer.write(group(100_000)) is None
    names = [file.name for file in segments(tmp_path)]
    assert names == [f"segment-{number:08d}.sqlite" for number in (1, 2, 3, 4)]
    numbers = [number for file in segments(tmp_path) for (number,) in read(file, "SELECT number FROM groups")]
    assert numbers == list(range(1, 8))
    # A complete segment is one file, and nothing unfinished is left.
    assert sorted(file.name for file in segments(tmp_path)[0].parent.iterdir() if "0001" in file.name) == names[:1]
    assert not list(tmp_path.rglob("*.new"))
    writer.close()


def test_writing_goes_on_once_the_shipper_has_made_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "SEGMENT_BYTES", 300_000)
    writer = SegmentWriter(tmp_path, POD, 1_500_000)
    failure = next(filter(None, (writer.write(group(100_000)) for _ in range(30))))
    assert (failure.cause, str(1_500_000) in failure.reason) == ("segments-full", True)
    assert bytes_in(tmp_path / POD) <= 1_500_000
    *complete, _ = segments(tmp_path)
    for file in complete:
        file.unlink()
    assert writer.write(group(100_000)) is None
    writer.close()


def test_a_deleted_segment_is_noticed_because_sqlite_would_write_to_it_for_ever(tmp_path: Path) -> None:
    ticks = itertools.count(step=10)
    writer = SegmentWriter(tmp_path, POD, 2**30, lambda: float(next(ticks)))
    assert writer.write(group()) is None
    (gone,) = segments(tmp_path)
    gone.unlink()
    assert writer.write(group()) is None
    (file,) = segments(tmp_path)
    assert (file.name, read(file, "SELECT number FROM groups")) == ("segment-00000002.sqlite", [(2,)])
    writer.close()


def test_a_deleted_log_is_followed_by_another_one(tmp_path: Path) -> None:
    ticks = itertools.count(step=10)
    writer = SegmentWriter(tmp_path, POD, 2**30, lambda: float(next(ticks)))
    assert writer.write(group()) is None
    (first,) = segments(tmp_path)
    for file in list(first.parent.iterdir()):
        file.unlink()
    first.parent.rmdir()
    assert writer.write(group()) is None
    (file,) = segments(tmp_path)
    assert file.parent != first.parent
    assert read(file, "SELECT number FROM groups") == [(1,)]
    writer.close()


def test_a_folder_that_cannot_be_written_to_is_a_failure_that_ends(tmp_path: Path) -> None:
    blocked = tmp_path / POD
    blocked.write_text("a file where the pod's folder should be")
    writer = SegmentWriter(tmp_path, POD, 2**30)
    for attempt in (writer.open(), *(writer.write(group()) for _ in range(2 * FAILURES_FOR_NEW_SEGMENT))):
        assert attempt
        assert (attempt.cause, str(tmp_path) in attempt.reason) == ("disk", True)
    blocked.unlink()
    assert writer.write(group()) is None
    writer.close()


def test_a_segment_that_keeps_failing_is_left_for_another_one(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, POD, 2**30)
    assert writer.write(group()) is None
    (first,) = segments(tmp_path)
    assert writer._segment
    writer._segment._database.execute("PRAGMA query_only = ON")
    for _ in range(FAILURES_FOR_NEW_SEGMENT):
        assert segments(tmp_path) == [first]
        failure = writer.write(group())
        assert failure
        assert "readonly" in failure.reason
    assert writer.write(group()) is None
    _, second = segments(tmp_path)
    assert read(second, "SELECT number FROM groups") == [(2,)]
    writer.close()


def test_names_of_segments_survive_a_crash_because_the_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    writer = SegmentWriter(tmp_path, POD, 2**30)
    assert writer.write(group()) is None
    (file,) = segments(tmp_path)
    assert file.parent in synced
    writer.close()
