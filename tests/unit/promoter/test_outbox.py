"""Delivery of events: each once, none lost, one that fails does not hold up others, and none twice after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from promoter.adapters.timeline import HttpTimeline
from promoter.api.resource import Owner
from promoter.api.status import State, TimelineEntry, TimelineState
from promoter.errors import PermanentError, RetryableError
from promoter.outbox import Outbox, document_of
from promoter.telemetry import Telemetry
from unit.promoter.background import run_until
from unit.promoter.fakes import OWNER
from unit.promoter.rollouts import Rollouts
from unit.promoter.timelines import Receiver, receiving

CARDS = Owner("bank", "cards", "u-2")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def service(receiver: Receiver, tmp_path: Path) -> AsyncIterator[HttpTimeline]:
    key = tmp_path / "key"
    key.write_text("k-operator\n")
    async with aiohttp.ClientSession() as session:
        yield HttpTimeline(session, receiver.url + "/", key)


def pending(*names: str, model: str = "credit-risk") -> State:
    entries = (TimelineEntry(id=name, model=model, kind="WeightChanged", at=1000.0, weight=5) for name in names)
    return State(timeline=TimelineState(pending=tuple(entries)))


def ids(state: State) -> list[str]:
    return [entry.id for entry in state.timeline.pending]


async def delivered(outbox: Outbox, holds: Callable[[], bool]) -> None:
    """Run an outbox until something holds."""
    await run_until(holds, outbox.run())


def outbox_for(service: HttpTimeline) -> tuple[Outbox, Telemetry, list[float]]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    telemetry = Telemetry()
    return Outbox(service, telemetry, sleep), telemetry, pauses


def counted(telemetry: Telemetry, outcome: str) -> float:
    return telemetry.registry.get_sample_value("promoter_timeline_events_total", {"outcome": outcome}) or 0.0


async def test_events_are_delivered_in_order_with_the_key_and_leave_the_status(
    receiver: Receiver, service: HttpTimeline
) -> None:
    outbox, telemetry, _ = outbox_for(service)
    state = outbox.without_delivered(OWNER, pending("1", "2", "3", model="credit risk/eu"))
    assert ids(state) == ["1", "2", "3"]
    await delivered(outbox, lambda: not outbox.waiting)
    assert [event["event_id"] for event in receiver.events] == ["1", "2", "3"]
    assert receiver.requests[0][:2] == ("/v1/models/credit%20risk%2Feu/timeline", "Bearer k-operator")
    assert ids(outbox.without_delivered(OWNER, state)) == []
    assert counted(telemetry, "delivered") == 3
    # As long as the status was not stored without them.
    assert ids(outbox.without_delivered(OWNER, state)) == []
    assert ids(outbox.without_delivered(OWNER, State())) == []


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 404, 302])
async def test_what_the_service_may_take_later_is_repeated_with_growing_pauses(
    receiver: Receiver, service: HttpTimeline, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, telemetry, pauses = outbox_for(service)
    receiver.statuses = [status] * 9
    state = outbox.without_delivered(OWNER, pending("1"))
    with caplog.at_level(logging.WARNING):
        await delivered(outbox, lambda: not outbox.waiting)
    assert f"answered {status}" in caplog.text
    assert pauses[0] < pauses[2] < pauses[4] < pauses[8] <= 1.2 * 60
    assert telemetry.registry.get_sample_value("promoter_timeline_failures_total") == 9
    assert ids(outbox.without_delivered(OWNER, state)) == []


async def test_a_refused_event_is_dropped_and_counted(receiver: Receiver, service: HttpTimeline) -> None:
    outbox, telemetry, _ = outbox_for(service)
    receiver.statuses = [422]
    state = outbox.without_delivered(OWNER, pending("1", "2"))
    await delivered(outbox, lambda: not outbox.waiting)
    assert [event["event_id"] for event in receiver.events] == ["2"]
    assert ids(outbox.without_delivered(OWNER, state)) == []
    assert (counted(telemetry, "refused"), counted(telemetry, "delivered")) == (1, 1)


async def test_an_event_that_always_fails_does_not_hold_up_the_others(
    receiver: Receiver, service: HttpTimeline
) -> None:
    class Poisoned:
        async def report(self, model: str, event: dict[str, Any]) -> None:
            if event["event_id"] == "1":
                raise RetryableError("answered 500")
            await service.report(model, event)

    outbox = Outbox(Poisoned(), Telemetry(), lambda _: asyncio.sleep(0))
    mine = outbox.without_delivered(OWNER, pending("1", "2"))
    other = outbox.without_delivered(CARDS, pending("3"))
    await delivered(outbox, lambda: outbox.waiting == 1)
    assert ids(outbox.without_delivered(OWNER, mine)) == ["1"]
    assert ids(outbox.without_delivered(CARDS, other)) == []


async def test_a_restarted_operator_delivers_what_was_left(receiver: Receiver, service: HttpTimeline) -> None:
    first, *_ = outbox_for(service)
    state = first.without_delivered(OWNER, pending("1", "2", "3"))
    receiver.statuses = [200] + [503] * 100
    await delivered(first, lambda: len(receiver.requests) > 3)
    receiver.statuses = []
    # It was killed before it stored what was delivered.
    second, *_ = outbox_for(service)
    state = second.without_delivered(OWNER, State.model_validate(state.to_document()))
    await delivered(second, lambda: not second.waiting)
    assert sorted(event["event_id"] for event in receiver.events) == ["1", "2", "3"]
    assert ids(second.without_delivered(OWNER, state)) == []


async def test_the_key_is_read_for_each_event_and_never_sent_on(
    receiver: Receiver, service: HttpTimeline, tmp_path: Path
) -> None:
    event = document_of(pending("1").timeline.pending[0])
    (tmp_path / "key").write_text("k-new")
    await service.report("credit-risk", event)
    assert receiver.requests[-1][1] == "Bearer k-new"
    for content in (b"two\nlines", "schl\u00fcssel".encode(), b"\xff"):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(RetryableError, match="key"):
            await service.report("credit-risk", event)
    (tmp_path / "key").unlink()
    with pytest.raises(RetryableError, match=r"the API key for http://127\.0\.0\.1"):
        await service.report("credit-risk", event)


async def test_errors_say_what_the_service_answered(receiver: Receiver, service: HttpTimeline) -> None:
    event = document_of(pending("1").timeline.pending[0])
    receiver.statuses = [422, 503]
    with pytest.raises(PermanentError, match=r"answered 422: .*as told"):
        await service.report("credit-risk", event)
    with pytest.raises(RetryableError, match="answered 503"):
        await service.report("credit-risk", event)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(RetryableError, match="Cannot connect"):
            await HttpTimeline(session, "http://127.0.0.1:1", None).report("credit-risk", event)


async def test_a_rollout_takes_its_course_while_the_service_is_away(receiver: Receiver, service: HttpTimeline) -> None:
    outbox, *_ = outbox_for(service)
    receiver.statuses = [503] * 10_000
    rollouts = Rollouts()
    rollouts.outbox = outbox
    rollouts.promote("2")
    assert rollouts.state.stable_version == "2"
    receiver.statuses = []
    waiting = len(rollouts.state.timeline.pending)
    assert waiting >= 6
    rollouts.turn()
    await delivered(outbox, lambda: not outbox.waiting)
    assert len(receiver.events) == waiting
    rollouts.turn()
    assert rollouts.state.timeline.pending == ()
