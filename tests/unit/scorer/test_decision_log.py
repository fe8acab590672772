"""The decision log in the event loop: what it writes together, what waits for it, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET, UnsetType

from scorer.answers import Decision, Reason
from scorer.decision_log import log as log_module
from scorer.decision_log.events import DecidedRows
from scorer.decision_log.log import DecisionLog
from scorer.decision_log.origin import Origin, Role
from scorer.decision_log.writer import Failure, Group
from scorer.model.identity import Identity
from scorer.problems import Problem
from scorer.request_context import client
from unit.scorer.decision_segments import POD, Running, decision_log, decisions, groups

IDENTITY = Identity("credit-risk", "7", "run", {"model.onnx": "ab"}, {})
NUMERIC, CODES = np.array([[1.5, np.nan]], np.float32), np.array([[3]], np.int64)


def add_one(
    log: DecisionLog, request: str = "r", *, version: Identity = IDENTITY, role: Role = "champion",
    header: str | None = None, body: str | None = None, reasons: Sequence[str] | UnsetType = UNSET,
    decision: Decision = "approve",
) -> str:  # fmt: skip
    given = reasons if isinstance(reasons, UnsetType) else tuple(Reason("f", code, "", 0.1, -2.0) for code in reasons)
    return log.add_one(
        version, b"{}", Origin(request, "score", 0.0, role, header), body, NUMERIC, CODES, 0.25, 600, decision, given
    )


def add(log: DecisionLog, count: int = 1, size: int = 1) -> list[str]:
    names = [f"r{number}".ljust(size, ".") for number in range(count)]
    for name in names:
        add_one(log, name)
    return names


async def until_durable(running: Running, count: int) -> None:
    async with asyncio.timeout(10):
        while running.metric("decisions_total") < count:
            await asyncio.sleep(0.005)


async def answered(log: DecisionLog, request: str = "r") -> str:
    """Do what scoring does in the mode require: answer once the decision is durable."""
    add_one(log, request)
    await log.durable()
    return request


async def test_decisions_that_come_together_are_durable_together(tmp_path: Path) -> None:
    async with decision_log(tmp_path) as running:
        names = add(running.log, 50)
        assert running.metric("queue_decisions") == 50
        assert running.metric("queue_bytes") > 50 * 50
        await until_durable(running, 50)
        assert (running.metric("groups_total"), running.metric("fsync_seconds_count")) == (1, 1)
        assert (running.metric("queue_decisions"), running.metric("queue_bytes")) == (0, 0)
        assert 0 < running.metric("segment_bytes") < running.metric("segment_limit_bytes") == 2**30
        assert running.log.problem is None
    # One event of many requests.
    ((number, count, (event,)),) = groups(tmp_path)
    assert (number, count, event["request_id"]) == (1, 50, names)
    assert {one.numeric[0] for one in decisions(tmp_path)} == {1.5}


async def test_a_group_of_many_decisions_has_events_of_a_bounded_size(tmp_path: Path) -> None:
    many = 2 * log_module.SINGLES + 7
    async with decision_log(tmp_path) as running:
        names = add(running.log, many)
        assert running.metric("queue_decisions") == many
        await until_durable(running, many)
        assert running.metric("groups_total") == 1
    ((_, count, events),) = groups(tmp_path)
    assert (count, len(events)) == (many, 3)
    assert [one.request_id for one in decisions(tmp_path)] == names
    assert len({one.id for one in decisions(tmp_path)}) == many


async def test_requests_that_differ_in_all_that_an_event_can_share_keep_their_own(tmp_path: Path) -> None:
    async with decision_log(tmp_path) as running:
        ids = [add_one(running.log, "a", header="in the header", body="in the body")]
        token = client.set("web")
        ids.append(add_one(running.log, "b", role="fall-back", reasons=["R01", "R02"], body=""))
        client.reset(token)
        ids.append(add_one(running.log, "a", body="in the body", reasons=[], decision="decline"))
        await until_durable(running, 3)
    assert [
        (one.request_id, one.role, one.client, one.applicant_id, one.reasons, one.decision, one.row)
        for one in decisions(tmp_path)
    ] == [
        ("a", "champion", "", "in the header", None, "approve", 0),
        ("b", "fall-back", "web", None, ["R01", "R02"], "approve", 0),
        ("a", "champion", "", "in the body", [], "decline", 0),
    ]
    assert [one.id for one in decisions(tmp_path)] == ids
    (only,) = {len(events) for _, _, events in groups(tmp_path)}
    assert only == 1


async def test_the_end_of_the_process_writes_what_was_answered(tmp_path: Path) -> None:
    async with decision_log(tmp_path) as running:
        add(running.log, 20)
    assert len(decisions(tmp_path)) == 20
    assert running.not_logged("shutdown") == 0


async def test_the_log_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with decision_log(tmp_path) as running:
        may_write, write = threading.Event(), running.writer.write
        monkeypatch.setattr(running.writer, "write", lambda group: may_write.wait(10) and write(group))
        add(running.log, 10)
        async with asyncio.timeout(5):
            while running.log._writing.decisions == 0:
                await asyncio.sleep(0.01)
        add(running.log, 10)
        assert running.metric("queue_decisions") == 20
        may_write.set()
        await until_durable(running, 20)


async def test_a_full_queue_drops_and_counts_and_the_pod_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "QUEUE_BYTES", 20_000)
    monkeypatch.setattr(log_module, "SINGLES", 2)
    async with decision_log(tmp_path) as running:
        add(running.log, 50, size=1000)
        dropped = running.not_logged("queue-full")
        assert 25 < dropped < 35
        problem = running.log.problem
        assert problem
        assert "queue-full" in problem
        await until_durable(running, 50 - int(dropped))
        monkeypatch.setattr(log_module, "TELL_SECONDS", 0.0)
        add(running.log, 50, size=1000)
        assert running.log.problem is None
    assert len(decisions(tmp_path)) == 100 - running.not_logged("queue-full")


async def test_segments_at_their_limit_keep_decisions_waiting_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "QUEUE_BYTES", 20_000)
    monkeypatch.setattr(log_module, "SINGLES", 2)
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.05)
    async with decision_log(tmp_path, max_bytes=2_000_000) as running:
        left = tmp_path / POD / "earlier" / "segment-00000001.sqlite"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"x" * 2_000_000)
        add(running.log, 10, size=1000)
        async with asyncio.timeout(5):
            while running.log.problem is None:
                await asyncio.sleep(0.01)
        assert "segments-full" in running.log.problem
        assert "10 wait" in running.log.problem
        # The next ones gather in the queue, until that is full too.
        add(running.log, 50, size=1000)
        assert 25 < running.not_logged("segments-full") < 35
        left.unlink()
        left.parent.rmdir()
        await until_durable(running, 60 - int(running.not_logged("segments-full")))
        assert "a moment ago (segments-full); 0 wait" in (running.log.problem or "")


async def test_a_disk_that_fails_for_a_while_costs_no_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.05)
    (tmp_path / POD).write_text("a file where the pod's folder should be")
    async with decision_log(tmp_path) as running:
        add(running.log, 10)
        async with asyncio.timeout(5):
            while running.log.problem is None:
                await asyncio.sleep(0.01)
        assert "disk" in running.log.problem
        (tmp_path / POD).unlink()
        await until_durable(running, 10)
        assert running.log.problem is None
    assert len(decisions(tmp_path)) == 10


async def test_what_cannot_be_written_before_the_process_ends_is_counted(tmp_path: Path) -> None:
    (tmp_path / POD).write_text("a file where the pod's folder should be")
    async with decision_log(tmp_path) as running:
        add(running.log, 10)
        await asyncio.sleep(0.2)
        add(running.log, 5)
    assert running.not_logged("shutdown") == 15
    assert sum(running.not_logged(cause) for cause in ("queue-full", "segments-full", "disk")) == 0


async def test_a_disk_that_hangs_does_not_keep_the_process_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "FLUSH_SECONDS", 0.3)
    released = threading.Event()
    async with decision_log(tmp_path) as running:
        monkeypatch.setattr(running.writer, "write", lambda group: released.wait(10) and None)
        add(running.log, 10)
        await asyncio.sleep(0.2)
        add(running.log, 5)
    assert running.not_logged("shutdown") == 15
    released.set()


async def test_required_an_answer_waits_until_its_decision_is_durable(tmp_path: Path) -> None:
    async with decision_log(tmp_path, "require") as running:
        for number in range(3):
            name = await answered(running.log, f"r{number}")
            assert decisions(tmp_path)[-1].request_id == name
        assert running.metric("groups_total") == 3


async def test_required_waiting_answers_share_the_next_fsync(tmp_path: Path) -> None:
    async with decision_log(tmp_path, "require") as running:
        await asyncio.gather(*(answered(running.log, f"r{number}") for number in range(100)))
        assert running.metric("groups_total") <= 2
    assert len(decisions(tmp_path)) == 100


async def test_required_a_group_that_fails_answers_none_of_its_requests_and_leaves_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RETRY_SECONDS", 0.05)
    async with decision_log(tmp_path, "require") as running:
        await answered(running.log, "before")
        failing = Failure("disk", "no space left on device: /var/lib/decisions")
        with monkeypatch.context() as patched:
            patched.setattr(running.writer, "write", lambda group: failing)
            refused = await asyncio.gather(*(answered(running.log) for _ in range(10)), return_exceptions=True)
            problem = running.log.problem
        assert {type(one) for one in refused} == {Problem}
        (first, *_) = refused
        assert isinstance(first, Problem)
        assert (first.status, first.code, first.headers) == (503, "decision-not-logged", (("Retry-After", "1"),))
        # Clients learn the cause, people on the management port the details.
        assert "/var/lib" not in first.detail
        assert problem
        assert "no space left on device" in problem
        assert running.not_logged("disk") == 10
        # Until the next attempt, requests are refused at once.
        with pytest.raises(Problem, match="disk"):
            add_one(running.log)
        await asyncio.sleep(0.1)
        await answered(running.log, "after")
        assert running.log.problem is None
    assert [one.request_id for one in decisions(tmp_path)] == ["before", "after"]


async def test_required_requests_do_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "WAIT_SECONDS", 0.2)
    async with decision_log(tmp_path, "require") as running:
        await answered(running.log, "before")
        begun, released, write = threading.Event(), threading.Event(), running.writer.write

        def hanging(group: Group) -> Failure | None:
            begun.set()
            released.wait(10)
            return write(group)

        monkeypatch.setattr(running.writer, "write", hanging)
        in_write = asyncio.create_task(answered(running.log, "in the write"))
        assert await asyncio.to_thread(begun.wait, 5)
        async with asyncio.timeout(2):
            with pytest.raises(Problem, match="disk"):
                await answered(running.log, "behind it")
            with pytest.raises(Problem, match="disk"):
                await answered(running.log, "later")
        # Nobody knows yet whether this one will be in the log, so it is neither answered nor refused.
        assert not in_write.done()
        released.set()
        assert await in_write == "in the write"
        await answered(running.log, "after")
    names = [one.request_id for one in decisions(tmp_path)]
    assert names == ["before", "in the write", "after"]


async def test_required_a_client_that_leaves_does_not_end_the_wait_of_others(tmp_path: Path) -> None:
    async with decision_log(tmp_path, "require") as running:
        one, other = (asyncio.create_task(answered(running.log, name)) for name in ("one", "other"))
        await asyncio.sleep(0)
        one.cancel()
        assert await other == "other"
    assert len(decisions(tmp_path)) == 2


async def test_an_unexpected_error_of_the_writer_does_not_go_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with decision_log(tmp_path, "require") as running:
        await answered(running.log, "before")

        def broken(group: Group) -> Failure | None:
            raise LookupError("a mistake")

        monkeypatch.setattr(running.writer, "write", broken)
        async with asyncio.timeout(5):
            with pytest.raises(Problem, match="disk"):
                await answered(running.log)
            with pytest.raises(Problem, match="disk"):
                await answered(running.log)
        assert running.log.problem
        assert "a mistake" in running.log.problem


async def test_two_versions_in_one_group_are_both_named(tmp_path: Path) -> None:
    other = Identity("credit-risk", "8", "run", {}, {})
    columns = (NUMERIC, CODES, np.array([0.25], np.float32), np.array([600], np.int32), np.array([False]))
    async with decision_log(tmp_path) as running:
        origin = Origin("batch", "batch", 0.0)
        ids = [add_one(running.log, version=version) for version in (IDENTITY, other, other)]
        running.log.add_rows(IDENTITY, b"{}", origin, DecidedRows.of(origin, None, columns, [], 0))
        ids.append(add_one(running.log, version=IDENTITY))
        await until_durable(running, 5)
    found = decisions(tmp_path)
    with sqlite3.connect(next(tmp_path.glob("*/*/*.sqlite"))) as database:
        versions = dict(database.execute("SELECT key, version FROM versions").fetchall())
    database.close()
    assert {one.id: versions[one.event["version"]] for one in found if one.event["endpoint"] == "score"} == dict(
        zip(ids, "7887", strict=True)
    )
    assert [versions[one.event["version"]] for one in found if one.event["endpoint"] == "batch"] == ["7"]
    # Those of an event have one version, so that there are no more events than changes.
    ((_, _, events),) = groups(tmp_path)
    assert len(events) == 4
