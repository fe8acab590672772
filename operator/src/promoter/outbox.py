"""Delivers events to the timeline, beside the turns and never in their way.

What is to be delivered lies in the status of the ModelPromotions; this only knows which of it is delivered already. An
operator that starts again delivers some events a second time, which changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from promoter.api.resource import Owner
from promoter.api.status import State, TimelineEntry
from promoter.backoff import backoff, spread
from promoter.errors import PermanentError, RetryableError
from promoter.telemetry import Telemetry

log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0


class TimelineService(Protocol):
    """The decisions service, which keeps the timelines of all models."""

    async def report(self, model: str, event: dict[str, Any]) -> None:
        """Report an event; reporting it again changes nothing.

        Raises:
            RetryableError: the service did not answer, or not as it should; a later attempt may help.
            PermanentError: it refused this event.
        """


class Outbox:
    """The events of all promotions that are not delivered yet."""

    def __init__(
        self,
        service: TimelineService,
        telemetry: Telemetry,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the service, the operator's metrics, and how to wait before another attempt."""
        self._service, self._telemetry, self._sleep = service, telemetry, sleep
        self._waiting: dict[str, tuple[Owner, TimelineEntry]] = {}
        # By promotion: what is delivered, or refused, and still in the stored status.
        self._settled: dict[str, set[str]] = {}
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Return how many events are taken and not delivered."""
        return len(self._waiting)

    def without_delivered(self, owner: Owner, state: State) -> State:
        """Return a stored state without the events that are delivered, and take those that are not.

        The state of a deleted promotion is not seen again; what was taken of it is delivered nevertheless.
        """
        pending = state.timeline.pending
        settled = self._settled.get(owner.uid, set()) & {entry.id for entry in pending}
        self._settled[owner.uid] = settled
        left = tuple(entry for entry in pending if entry.id not in settled)
        new = {entry.id: (owner, entry) for entry in left if entry.id not in self._waiting}
        if new:
            self._waiting |= new
            self._wake.set()
        if not settled:
            return state
        return state.model_copy(update={"timeline": state.timeline.model_copy(update={"pending": left})})

    async def run(self) -> None:
        """Deliver what is taken, for ever: the oldest first, and after a failure the next one."""
        faults = 0
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            owner, entry = next(iter(self._waiting.values()))
            try:
                await self._service.report(entry.model, document_of(entry))
            except RetryableError as error:
                faults += 1
                self._telemetry.timeline_failures.inc()
                log.warning("%s: %d events of the timeline stay pending: %s", owner, self.waiting, error)
                # One that always fails must not hold up the others.
                self._waiting[entry.id] = self._waiting.pop(entry.id)
                await self._sleep(spread(backoff(faults, _FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)))
                continue
            except PermanentError as error:
                log.error("%s: event %s of the timeline was refused, and is dropped: %s", owner, entry.id, error)  # noqa: TRY400
                self._settle(owner, entry, "refused")
            else:
                self._settle(owner, entry, "delivered")
            faults = 0

    def _settle(self, owner: Owner, entry: TimelineEntry, outcome: str) -> None:
        self._telemetry.timeline_events.labels(outcome).inc()
        del self._waiting[entry.id]
        self._settled.setdefault(owner.uid, set()).add(entry.id)


def document_of(entry: TimelineEntry) -> dict[str, Any]:
    """Return an event as contracts/timeline-event.schema.json has it."""
    document = entry.model_dump(mode="json", exclude_none=True, exclude={"id", "model", "at"})
    times = entry.model_dump(mode="json", include={"at"})
    return {"event_id": entry.id, "happened_at": times["at"], **document}
