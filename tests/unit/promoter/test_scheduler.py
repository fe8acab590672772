"""The loops: one per promotion, woken by changes, ended by nothing but deletion; one promotion per target."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from promoter.api.status import Phase, State
from promoter.ports import Snapshot
from promoter.promotion import Adapters, Promotion
from promoter.reconcile import reconcile, report_fault
from promoter.scheduler import Scheduler
from unit.promoter.fakes import ROLLING_OUT, Cluster, document, fakes_for, in_first_step

Document = dict[str, Any]


def scheduler_for(adapters: Adapters, *, poll_seconds: float, tick_seconds: float) -> Scheduler:
    return Scheduler(
        adapters, reconcile, report_fault, poll_seconds=poll_seconds, tick_seconds=tick_seconds, settle_seconds=0
    )


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0.01)


async def test_an_action_that_keeps_failing_is_reported_until_it_works() -> None:
    adapters, cluster, *_ = fakes_for(ROLLING_OUT)
    cluster.fail = {"apply_route"}
    scheduler = scheduler_for(adapters, poll_seconds=0.02, tick_seconds=0.005)
    scheduler.upsert(document() | {"status": in_first_step(weight=20).to_document()})
    async with asyncio.timeout(5):
        while not (reported := [status for status in cluster.saved if "retrying" in status["message"]]):
            await asyncio.sleep(0.01)
    condition = next(c for c in reported[0]["conditions"] if c["type"] == "Degraded")
    assert (condition["status"], condition["reason"]) == ("True", "Retrying")
    assert condition["message"] == "apply_route: 500"
    assert reported[0]["message"].endswith("; retrying: apply_route: 500")
    cluster.fail = set()
    async with asyncio.timeout(5):
        while "retrying" in cluster.saved[-1]["message"]:
            await asyncio.sleep(0.01)
    assert next(c for c in cluster.saved[-1]["conditions"] if c["type"] == "Degraded")["status"] == "False"
    await scheduler.close()


async def test_neither_refusals_nor_timeouts_end_a_loop_and_both_are_counted() -> None:
    adapters, cluster, *_ = fakes_for()
    cluster.refuse, scheduler = {"save_status"}, scheduler_for(adapters, poll_seconds=0.02, tick_seconds=0.01)

    def counted(kind: str) -> float:
        labels = {"namespace": "bank", "name": "loans", "kind": kind}
        return adapters.telemetry.registry.get_sample_value("promoter_reconcile_errors_total", labels) or 0.0

    scheduler.upsert(document())
    # The second shows that the loop went on after the first.
    await until(lambda: counted("permanent") >= 2)
    assert scheduler.hung(60) == []
    cluster.refuse, cluster.fail = set(), {"snapshot"}
    await until(lambda: counted("retryable") >= 2)
    assert scheduler.hung(60) == []
    await scheduler.close()


async def test_a_loop_that_ended_or_is_stuck_is_hung(caplog: pytest.LogCaptureFixture) -> None:
    adapters, cluster, *_ = fakes_for()
    scheduler = scheduler_for(adapters, poll_seconds=1, tick_seconds=1)
    cluster.found = None  # type: ignore[assignment] # a programming error
    scheduler.upsert(document())
    await until(lambda: scheduler.hung(60) == ["bank/loans"])
    assert "promotion bank/loans ended" in caplog.text
    await scheduler.close()

    adapters, cluster, *_ = fakes_for()
    stuck = asyncio.Event()

    async def never(*_: Any, **__: Any) -> Snapshot:
        await stuck.wait()
        raise AssertionError

    cluster.snapshot = never  # type: ignore[method-assign]
    scheduler = scheduler_for(adapters, poll_seconds=1, tick_seconds=1)
    scheduler.upsert(document())
    await until(lambda: scheduler.hung(0.01) == ["bank/loans"])
    assert scheduler.hung(60) == []
    await scheduler.close()


async def test_an_object_that_is_changed_and_deleted_at_the_same_moment_has_no_loop_left() -> None:
    adapters, cluster, *_ = fakes_for()
    scheduler = scheduler_for(adapters, poll_seconds=60, tick_seconds=60)
    stored = document()
    scheduler.upsert(stored)
    (loop,) = (task for task in asyncio.all_tasks() if task.get_name().startswith("promotion "))
    await until(lambda: cluster.saved and cluster.saved[-1]["phase"] == "Idle")
    # It waits for the next poll.
    await asyncio.sleep(0.2)
    changed = stored | {"metadata": {**stored["metadata"], "generation": 99}}
    scheduler.upsert(changed)
    scheduler.remove(changed)
    await until(loop.done)
    assert loop.cancelled()


async def test_gauges_exist_from_the_start_until_the_object_is_deleted() -> None:
    adapters, *_ = fakes_for()
    scheduler, registry = scheduler_for(adapters, poll_seconds=1, tick_seconds=1), adapters.telemetry.registry
    labels = {"namespace": "bank", "name": "loans", "phase": "Paused"}
    scheduler.upsert(document() | {"status": {"phase": "Paused", "stableVersion": "1"}})
    assert registry.get_sample_value("promoter_phase", labels) == 1
    scheduler.remove(document())
    assert registry.get_sample_value("promoter_phase", labels) is None
    await scheduler.close()


def promotion(name: str, created: str, *, namespace: str = "bank", target: str = "scoring") -> Document:
    """Return an idle promotion of version 2; its uid is its name."""
    status = State(phase=Phase.IDLE, stable_version="2", desired_version="2", target=target).to_document()
    metadata = {"namespace": namespace, "name": name, "uid": name, "generation": 1, "creationTimestamp": created}
    spec = {"model": {"name": "credit-risk"}, "targetRef": {"name": target}}
    return {"metadata": metadata, "spec": spec, "status": status}


OLDER, YOUNGER = promotion("loans", "2026-01-01T00:00:00Z"), promotion("cards", "2026-02-01T00:00:00Z")


def reasons(cluster: Cluster, name: str) -> list[str]:
    return [event.reason for owner, event in cluster.recorded if owner.name == name]


def degraded(cluster: Cluster, name: str) -> tuple[str, str]:
    """Return reason and message of the condition Degraded in the last saved status; empty if none was saved."""
    statuses = [status for owner, status in cluster.saved_by if owner.name == name]
    found = [c for status in statuses[-1:] for c in status["conditions"] if c["type"] == "Degraded"]
    return (found[0]["reason"], found[0]["message"]) if found else ("", "")


@pytest.mark.parametrize("order", [(OLDER, YOUNGER), (YOUNGER, OLDER)], ids=["older first", "younger first"])
async def test_the_younger_of_two_promotions_of_a_target_is_refused_until_the_older_is_deleted(
    order: tuple[Document, Document],
) -> None:
    adapters, cluster, registry, _ = fakes_for()
    registry.version = "2"
    turns: Counter[str] = Counter()

    async def counted_turn(adapters: Adapters, promotion: Promotion) -> None:
        await reconcile(adapters, promotion)
        turns[promotion.owner.name] += 1

    scheduler = Scheduler(adapters, counted_turn, report_fault, poll_seconds=0.05, tick_seconds=0.02, settle_seconds=0)
    for found in order:
        scheduler.upsert(found)
    await until(lambda: degraded(cluster, "cards")[0] == "TargetTaken")
    assert degraded(cluster, "cards")[1].startswith(
        "Deployment scoring is already the target of ModelPromotion loans, which is older; delete one of the two"
    )
    await until(lambda: degraded(cluster, "loans")[0] == "AsExpected")
    before = turns.copy()
    await until(lambda: all(turns[name] >= before[name] + 3 for name in ("loans", "cards")))
    assert reasons(cluster, "cards").count("TargetTaken") == 1
    assert "TargetTaken" not in reasons(cluster, "loans")
    scheduler.remove(OLDER)
    await until(lambda: degraded(cluster, "cards")[0] == "AsExpected")
    await scheduler.close()


@pytest.mark.parametrize(
    "other",
    [promotion("cards", "2026-02-01T00:00:00Z", target="cards"),
     promotion("cards", "2026-02-01T00:00:00Z", namespace="insurance")],
    ids=["another target", "another namespace"],
)  # fmt: skip
async def test_promotions_of_different_targets_do_not_affect_each_other(other: Document) -> None:
    adapters, cluster, registry, _ = fakes_for()
    registry.version = "2"
    scheduler = scheduler_for(adapters, poll_seconds=0.05, tick_seconds=0.02)
    scheduler.upsert(OLDER)
    scheduler.upsert(other)
    await until(lambda: {degraded(cluster, name)[0] for name in ("loans", "cards")} == {"AsExpected"})
    assert reasons(cluster, "cards") == []
    await scheduler.close()


async def test_an_older_promotion_with_a_broken_spec_keeps_its_target() -> None:
    adapters, cluster, *_ = fakes_for()
    broken = OLDER | {"spec": {"model": {"name": "credit-risk"}, "steps": [{"pause": {}}]}}
    scheduler = scheduler_for(adapters, poll_seconds=0.05, tick_seconds=0.02)
    scheduler.upsert(YOUNGER)
    scheduler.upsert(broken)
    await until(lambda: degraded(cluster, "cards")[0] == "TargetTaken")
    await until(lambda: degraded(cluster, "loans")[0] == "InvalidSpec")
    assert cluster.snapshots == []
    await scheduler.close()


async def test_a_new_promotion_waits_a_moment_for_older_ones_of_its_target() -> None:
    adapters, cluster, *_ = fakes_for()
    scheduler = Scheduler(adapters, reconcile, report_fault, poll_seconds=0.05, tick_seconds=0.02, settle_seconds=0.5)
    scheduler.upsert(YOUNGER)
    # As many turns of the event loop as its first turn would need.
    for _ in range(20):
        await asyncio.sleep(0)
    scheduler.upsert(OLDER)
    await until(lambda: degraded(cluster, "cards")[0])
    assert degraded(cluster, "cards")[0] == "TargetTaken"
    assert {owner.name for owner, _ in cluster.snapshots} <= {"loans"}
    await scheduler.close()


@pytest.mark.parametrize(
    ("stored", "rewritten"),
    [
        (State(phase=Phase.IDLE, stable_version="2").to_document(), False),
        ({"phase": "Idle", "stableVersion": "2", "phaseStartedAt": 1764300000.25}, True),
        ({"phase": "Dancing"}, True),
        ({}, False),
    ],
    ids=["current", "of an older operator", "unreadable", "none"],
)
async def test_a_status_in_another_form_is_rewritten_in_the_first_turn(stored: Document, rewritten: bool) -> None:
    adapters, cluster, *_ = fakes_for()
    cluster.fail = {"snapshot"}
    scheduler = scheduler_for(adapters, poll_seconds=1, tick_seconds=1)
    scheduler.upsert(document() | {"status": stored})
    await until(lambda: "snapshot" in cluster.calls)
    assert (cluster.calls[0] == "save_status") == rewritten
    await scheduler.close()
