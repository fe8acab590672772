"""Turns with somebody to tell: what is told was stored before, and telling delays nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from promoter.api.resource import Owner
from promoter.api.status import Notification, Phase, State
from promoter.decision.notifications import PROBLEM_GRACE_SECONDS
from promoter.errors import RetryableError
from promoter.notifications.delivery import Notifier, Subscription
from promoter.notifications.settings import KINDS
from promoter.promotion import Promotion
from promoter.reconcile import reconcile, report_fault
from unit.promoter.fakes import OWNER, ROLLING_OUT, Fakes, document, fakes_for, in_first_step


@dataclass
class Silent:
    """A receiver that never answers."""

    name: str = "slack"
    asked: list[str] = field(default_factory=list)

    async def deliver(self, owner: Owner, notification: Notification) -> None:
        self.asked.append(notification.kind)
        await asyncio.Event().wait()


class Telling:
    """One promotion of an operator that has a receiver, at a time that the test sets."""

    def __init__(self, fakes: Fakes, promotion: Promotion) -> None:
        self.cluster, self.registry, self.promotion, self.now = fakes.cluster, fakes.registry, promotion, time.time()
        self.receiver = Silent()
        self.notifier = Notifier([Subscription(self.receiver, KINDS)], fakes.adapters.telemetry, lambda: self.now)
        self.adapters = replace(fakes.adapters, notifier=self.notifier, clock=lambda: self.now)

    async def turn(self, later: float = 0.0) -> list[str]:
        """Return what is pending after a turn."""
        self.now += later
        await reconcile(self.adapters, self.promotion)
        return self.pending

    @property
    def pending(self) -> list[str]:
        return [f"{entry.kind} {entry.reason}".strip() for entry in self.promotion.state.notifications.pending]


def at_rest(**spec: Any) -> Promotion:
    return Promotion(OWNER, document(**spec), State(stable_version="1", phase=Phase.IDLE))


async def test_a_notification_is_stored_with_the_decision_that_it_is_about() -> None:
    telling = Telling(fakes_for(), at_rest())
    assert await telling.turn() == ["RolloutStarted"]
    first = telling.cluster.saved[0]
    assert first["phase"] == "Starting"
    (entry,) = first["notifications"]["pending"]
    assert (entry["kind"], entry["version"], entry["to"]) == ("RolloutStarted", "2", ["slack"])
    assert entry["id"].startswith(f"{OWNER}/{OWNER.uid}/")
    assert telling.notifier.waiting == 1


async def test_what_was_not_stored_is_not_told_and_then_told_once() -> None:
    telling = Telling(fakes_for(), at_rest())
    telling.cluster.fail = {"save_status"}
    with pytest.raises(RetryableError):
        await telling.turn()
    assert telling.notifier.waiting == 0
    telling.cluster.fail = set()
    assert await telling.turn() == ["RolloutStarted"]
    assert await telling.turn() == ["RolloutStarted"]
    assert telling.notifier.waiting == 1


async def test_an_abort_is_told_while_the_receiver_hangs_and_delays_nothing() -> None:
    telling = Telling(fakes_for(ROLLING_OUT), Promotion(OWNER, document("abort"), in_first_step()))
    task = asyncio.create_task(telling.notifier.run())
    assert await telling.turn() == ["RolledBack Aborted"]
    async with asyncio.timeout(5):
        while not telling.receiver.asked:
            await asyncio.sleep(0)
    assert telling.cluster.calls[1:3] == ["save_status", "apply_route"]
    await telling.turn(1.0)
    assert telling.promotion.state.phase == Phase.ROLLING_BACK
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_spec_that_breaks_a_rule_is_a_problem_to_tell_of() -> None:
    telling = Telling(fakes_for(), at_rest(steps=[{"weight": 5}, {"weight": 2}]))
    assert await telling.turn() == []
    assert await telling.turn(PROBLEM_GRACE_SECONDS) == ["Degraded InvalidSpec"]
    telling.promotion.document = document(suspend=True)
    telling.registry.version = "1"
    assert await telling.turn(5) == ["Degraded InvalidSpec", "Recovered InvalidSpec"]


async def test_calls_that_keep_failing_are_told_of_once_they_have_lasted() -> None:
    telling = Telling(fakes_for(), at_rest(suspend=True))
    for later in (0.0, 1.0, PROBLEM_GRACE_SECONDS, 5.0):
        telling.now += later
        await report_fault(telling.adapters, telling.promotion, RetryableError("the API server: 500"))
    assert telling.pending == ["Degraded Retrying"]


async def test_a_pause_is_told_of_with_its_spec() -> None:
    spec: dict[str, Any] = {"steps": [{"weight": 5, "duration": "1s"}, {"pause": {}}, {"weight": 50, "duration": "1s"}]}
    promotion = Promotion(OWNER, document("skip-step", **spec), in_first_step())
    telling = Telling(fakes_for(ROLLING_OUT), promotion)
    assert await telling.turn() == ["WaitingForPerson Paused"]


async def test_a_restarted_operator_tells_what_was_left_without_a_change_of_the_state() -> None:
    first = Telling(fakes_for(), at_rest())
    await first.turn()
    stored = State.model_validate(first.cluster.saved[-1])
    second = Telling(fakes_for(), Promotion(OWNER, document(), stored))
    assert await second.turn() == ["RolloutStarted"]
    assert second.notifier.waiting == 1


def test_the_model_of_an_invalid_spec() -> None:
    invalid: tuple[Any, ...] = (None, {"model": "credit-risk"}, {"model": {}})
    for spec in invalid:
        found = Promotion(OWNER, {"metadata": {}, "spec": spec}, State())
        assert found.model == "loans"
    assert at_rest().model == "credit-risk"
