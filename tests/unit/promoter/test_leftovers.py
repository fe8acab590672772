"""Autoscalers that a deleted ModelPromotion kept from scaling in are restored, those of existing ones are not."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from promoter.decision.capacity import SETTLE_SECONDS
from promoter.errors import ForbiddenError, RetryableError
from promoter.leftovers import Leftovers
from promoter.ports import ScaleInHold


class Cluster:
    """A cluster with these holds."""

    def __init__(self, *holds: ScaleInHold) -> None:
        self.holds, self.asked = list(holds), list[str]()
        self.fault: Exception | None = None

    async def scale_in_holds(self, namespace: str) -> tuple[ScaleInHold, ...]:
        self.asked.append(namespace)
        if self.fault:
            raise self.fault
        return tuple(hold for hold in self.holds if namespace in {"", hold.namespace})

    async def restore_scale_in(self, namespace: str, name: str, policy: str) -> None:
        (found,) = (hold for hold in self.holds if (hold.namespace, hold.autoscaler) == (namespace, name))
        assert found.policy == policy
        self.holds.remove(found)


KEPT = ScaleInHold("bank", "scoring", "u-1", "Max")
LEFT = ScaleInHold("cards", "scoring", "u-0", "Min")


@pytest.mark.parametrize("namespaces", [("bank", "cards"), ()], ids=["some", "all"])
async def test_a_leftover_is_restored_when_the_load_was_measured_without_the_canary(
    namespaces: tuple[str, ...],
) -> None:
    now = [1000.0]
    cluster = Cluster(KEPT, LEFT)
    leftovers = Leftovers(cluster, namespaces, lambda: frozenset({"u-1"}), lambda: now[0])
    await leftovers.restore()
    now[0] += SETTLE_SECONDS - 1
    await leftovers.restore()
    assert cluster.holds == [KEPT, LEFT]
    now[0] += 1
    await leftovers.restore()
    assert cluster.holds == [KEPT]
    assert set(cluster.asked) == set(namespaces or {""})


async def test_one_that_is_claimed_again_is_no_leftover() -> None:
    now, followed = [1000.0], set[str]()
    cluster = Cluster(KEPT)
    leftovers = Leftovers(cluster, (), lambda: frozenset(followed), lambda: now[0])
    await leftovers.restore()
    followed.add("u-1")
    now[0] += SETTLE_SECONDS
    await leftovers.restore()
    followed.clear()
    now[0] += 1
    await leftovers.restore()
    assert cluster.holds == [KEPT]


async def test_it_goes_on_after_an_api_server_did_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    cluster, moments = Cluster(LEFT), iter(range(0, 100_000, 1000))
    cluster.fault = RetryableError("503")
    leftovers = Leftovers(cluster, (), frozenset, lambda: float(next(moments)))
    with caplog.at_level(logging.INFO):
        task = asyncio.create_task(leftovers.run(0.001))
        while "503" not in caplog.text:
            await asyncio.sleep(0.001)
        cluster.fault = None
        while cluster.holds:
            await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert "cards/scoring may scale in again" in caplog.text


async def test_a_problem_is_logged_when_it_appears_changes_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    leftovers = Leftovers(cluster, ("bank", "cards"), frozenset, lambda: 0.0)
    faults = [None, ForbiddenError("403"), RetryableError("503"), None]
    with caplog.at_level(logging.INFO):
        for fault in faults:
            cluster.fault = fault
            for _ in range(3):
                await leftovers.restore()
    what = "autoscalers in namespace {} that may have to be restored: {}"
    assert [record.getMessage() for record in caplog.records] == [
        *(what.format(namespace, "403") for namespace in ("bank", "cards")),
        *(what.format(namespace, "503") for namespace in ("bank", "cards")),
        *(f"autoscalers in namespace {namespace} can be restored again" for namespace in ("bank", "cards")),
    ]
