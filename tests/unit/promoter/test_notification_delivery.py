"""Delivery of notifications: each at least once, in order, and a receiver that is down delays no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from promoter.api.resource import Owner
from promoter.api.status import Notification, State
from promoter.errors import BusyError, PermanentError, RetryableError
from promoter.notifications.delivery import EXPIRES_AFTER_SECONDS, OUTCOMES, Notifier, Subscription
from promoter.notifications.settings import KINDS
from promoter.telemetry import Telemetry
from unit.promoter.background import run_until
from unit.promoter.fakes import OWNER
from unit.promoter.receivers import notification, stored

NOW = 1_767_225_600.0
CARDS = Owner("bank", "cards", "u-2")


@dataclass
class Scripted:
    """A receiver that fails as told, and then takes what it gets."""

    name: str
    faults: list[Exception] = field(default_factory=list)
    always_failing: str = ""
    got: list[str] = field(default_factory=list)

    async def deliver(self, owner: Owner, notification: Notification) -> None:
        if notification.version == self.always_failing:
            raise RetryableError("answered 500")
        if self.faults:
            raise self.faults.pop(0)
        self.got.append(notification.version or "")


class Site:
    """A notifier of some receivers, whose pauses are recorded and take no time."""

    def __init__(self, *receivers: Scripted) -> None:
        self.telemetry, self.pauses, self.now = Telemetry(), list[float](), NOW
        subscriptions = [Subscription(receiver, KINDS) for receiver in receivers]
        self.notifier = Notifier(subscriptions, self.telemetry, lambda: self.now, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def turn(self, state: State, owner: Owner = OWNER) -> State:
        """Store a state, as a turn does."""
        state = State.model_validate(self.notifier.without_settled(owner, state, NOW).to_document())
        self.notifier.take(owner, state)
        return state

    async def run_until(self, holds: Callable[[], bool]) -> None:
        await run_until(holds, self.notifier.run())

    async def deliver(self) -> None:
        await self.run_until(lambda: not self.notifier.waiting)

    def counted(self, receiver: str) -> dict[str, float]:
        value, found = self.telemetry.registry.get_sample_value, {}
        for outcome in OUTCOMES:
            found[outcome] = value("promoter_notifications_total", {"receiver": receiver, "outcome": outcome})
        return {outcome: count for outcome, count in found.items() if count}


def versions(state: State) -> list[str | None]:
    return [entry.version for entry in state.notifications.pending]


def numbered(count: int, to: Sequence[str] = ("slack",)) -> State:
    return stored(*(notification(number, to=tuple(to)) for number in range(1, count + 1)))


async def test_notifications_arrive_in_order_and_leave_the_status() -> None:
    slack = Scripted("slack")
    site = Site(slack)
    state = site.turn(numbered(3))
    assert versions(state) == ["1", "2", "3"]
    await site.deliver()
    assert slack.got == ["1", "2", "3"]
    # Until the status was stored without them, they are not delivered again.
    for _ in range(2):
        assert site.notifier.without_settled(OWNER, state, NOW).notifications.pending == ()
        site.notifier.take(OWNER, state)
    assert (site.notifier.waiting, site.turn(state).notifications.pending) == (0, ())
    assert site.counted("slack") == {"delivered": 3}
    assert site.turn(State()) == State()


async def test_a_receiver_that_is_down_delays_no_other_and_gets_everything_later() -> None:
    slack, email = Scripted("slack", [RetryableError("down")] * 10_000), Scripted("email")
    site = Site(slack, email)
    state = site.turn(numbered(3, ["slack", "email"]))
    await site.run_until(lambda: len(email.got) == 3 and len(site.pauses) > 9)
    state = site.turn(state)
    assert [entry.to for entry in state.notifications.pending] == [("slack",)] * 3
    slack.faults.clear()
    await site.deliver()
    assert sorted(slack.got) == ["1", "2", "3"]
    assert email.got == ["1", "2", "3"]
    assert versions(site.turn(state)) == []


async def test_the_order_survives_a_short_outage() -> None:
    slack = Scripted("slack", [RetryableError("down")] * 4)
    site = Site(slack)
    site.turn(numbered(3))
    await site.deliver()
    assert slack.got == ["1", "2", "3"]


async def test_one_that_always_fails_does_not_hold_up_the_others() -> None:
    slack = Scripted("slack", always_failing="1")
    site = Site(slack)
    state = site.turn(numbered(3))
    await site.run_until(lambda: len(slack.got) == 2)
    assert versions(site.turn(state)) == ["1"]


async def test_pauses_grow_to_a_limit_and_what_the_receiver_asks_for_is_honored() -> None:
    slack = Scripted("slack", [RetryableError("down")] * 11)
    site = Site(slack)
    site.turn(numbered(1))
    await site.deliver()
    assert 0.8 <= site.pauses[0] <= 1.2
    assert site.pauses[0] < site.pauses[2] < site.pauses[5] < site.pauses[8] <= 1.2 * 300
    assert site.pauses[10] <= 1.2 * 300
    assert site.telemetry.registry.get_sample_value(
        "promoter_notification_failures_total", {"receiver": "slack"}) == 11  # fmt: skip
    slack.faults = [BusyError("429", 42.0), BusyError("429", 0.0), BusyError("429", 1e9)]
    site.turn(stored(notification(9)))
    await site.deliver()
    waited = site.pauses[11:]
    assert waited[0] == 42.0
    assert 1.6 <= waited[1] <= 2.4, "asked for nothing, but it failed"
    assert waited[2] == 3600.0, "an hour at most, whatever it asks for"


async def test_a_refusal_is_not_repeated_and_told_by_an_event_of_kubernetes(caplog: pytest.LogCaptureFixture) -> None:
    slack = Scripted("slack", [PermanentError("https://hooks.test answered 404: no_service")])
    site = Site(slack)
    state = site.turn(numbered(2))
    with caplog.at_level(logging.ERROR):
        await site.deliver()
    assert slack.got == ["2"]
    assert "no_service" in caplog.text
    state = site.turn(state)
    assert state.notifications.pending == ()
    (event,) = state.pending_events
    assert (event.reason, event.type) == ("NotificationRefused", "Warning")
    assert event.message == (
        "the notification RolloutStarted was refused by slack, and is not sent again: "
        "https://hooks.test answered 404: no_service")  # fmt: skip
    assert site.turn(state) == state
    assert site.counted("slack") == {"delivered": 1, "refused": 1}


async def test_a_fault_of_one_receiver_ends_the_delivery_to_none(caplog: pytest.LogCaptureFixture) -> None:
    slack, email = Scripted("slack", [KeyError("https://hooks.test/secret")]), Scripted("email")
    site = Site(slack, email)
    site.turn(numbered(1, ["slack", "email"]))
    with caplog.at_level(logging.WARNING):
        await site.deliver()
    assert (slack.got, email.got) == (["1"], ["1"])
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_restarted_operator_delivers_what_was_left() -> None:
    slack = Scripted("slack")
    first = Site(slack)
    state = first.turn(numbered(3))
    await first.run_until(lambda: len(slack.got) >= 1)
    slack.faults = [RetryableError("down")] * 10_000
    state = first.turn(state)
    slack.faults = []
    second = Site(slack)
    state = second.turn(state)
    await second.deliver()
    assert set(slack.got) == {"1", "2", "3"}
    assert second.turn(state).notifications.pending == ()


async def test_what_is_a_day_old_or_was_dropped_from_the_status_is_not_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slack = Scripted("slack")
    site = Site(slack)
    old = notification(1, at=NOW - EXPIRES_AFTER_SECONDS - 1)
    state = site.turn(stored(old, notification(2), notification(3)))
    state = site.turn(stored(*(entry for entry in state.notifications.pending if entry.version != "2")))
    with caplog.at_level(logging.ERROR):
        await site.deliver()
    assert slack.got == ["3"]
    assert site.counted("slack") == {"delivered": 1, "dropped": 1, "expired": 1}
    assert "expired" in caplog.text
    assert versions(site.turn(state)) == []


async def test_a_receiver_that_is_gone_from_the_settings_holds_nothing_up() -> None:
    site = Site(Scripted("slack"))
    state = site.turn(stored(notification(1, to=("pager", "slack")), notification(2, to=("pager",))))
    assert [(entry.version, entry.to) for entry in state.notifications.pending] == [("1", ("slack",))]


async def test_promotions_are_told_apart_and_a_deleted_ones_news_still_arrive() -> None:
    slack = Scripted("slack")
    site = Site(slack)
    site.turn(stored(notification(1)))
    site.turn(stored(notification(2)), CARDS)
    site.notifier.forget(OWNER)
    site.turn(State(), CARDS)
    await site.deliver()
    assert slack.got == ["1"]
    assert site.counted("slack") == {"delivered": 1, "dropped": 1}


async def test_the_metrics_say_how_many_are_waiting() -> None:
    site = Site(Scripted("slack", [RetryableError("down")] * 10_000), Scripted("email"))
    site.turn(numbered(2, ["slack", "email"]))
    await site.run_until(lambda: len(site.pauses) > 2)
    value = site.telemetry.registry.get_sample_value
    assert value("promoter_notifications_pending", {"receiver": "slack"}) == 2
    assert value("promoter_notifications_pending", {"receiver": "email"}) == 0


def test_a_kind_goes_to_those_who_want_it() -> None:
    slack, email = Scripted("slack"), Scripted("email")
    subscriptions = [Subscription(slack, KINDS), Subscription(email, frozenset({"RolledBack"}))]
    notifier = Notifier(subscriptions, Telemetry(), lambda: NOW)
    assert notifier.subscribers["RolledBack"] == ("slack", "email")
    assert notifier.subscribers["Promoted"] == ("slack",)
