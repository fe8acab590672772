"""One loop per ModelPromotion, fed by watch events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from promoter.api.resource import Owner
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.status import RESTING, State
from promoter.backoff import backoff
from promoter.errors import PermanentError, RetryableError
from promoter.poll import Query
from promoter.promotion import Adapters, Promotion

log = logging.getLogger(__name__)
Document = dict[str, Any]
Turn = Callable[[Adapters, Promotion], Awaitable[None]]
ReportFault = Callable[[Adapters, Promotion, Exception], Awaitable[None]]
_MAX_PAUSE_SECONDS = 30.0
# kopf delivers existing objects one by one; an older promotion of the same target must be known before a younger acts.
SETTLE_SECONDS = 0.3


@dataclass
class _Loop:
    promotion: Promotion
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    busy_since: float | None = None
    task: asyncio.Task[None] | None = None


class Scheduler:
    """Starts, wakes and ends the loops."""

    def __init__(
        self,
        adapters: Adapters,
        turn: Turn,
        report_fault: ReportFault,
        *,
        poll_seconds: float,
        tick_seconds: float,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        """Create a scheduler without loops.

        Args:
            adapters: Passed to every turn.
            turn: One turn of one promotion.
            report_fault: Called after a turn that raised.
            poll_seconds: Seconds between the turns of a resting promotion.
            tick_seconds: Seconds between the turns of a promotion with a rollout in progress.
            settle_seconds: Seconds before the first turn of a new promotion.
        """
        self._adapters, self._turn, self._report_fault = adapters, turn, report_fault
        self._poll_seconds, self._tick_seconds, self._settle_seconds = poll_seconds, tick_seconds, settle_seconds
        self._loops: dict[tuple[str, str], _Loop] = {}

    def upsert(self, document: Document) -> None:
        """Take a new or changed object.

        The state in memory is newer than that of any watch event, so the status of a known object is not read again.
        """
        owner = _owner(document)
        key = (owner.namespace, owner.name)
        loop = self._loops.get(key)
        if loop and loop.promotion.owner.uid != owner.uid:
            self._end(loop)
            loop = None
        if loop is None:
            loop = self._loops[key] = _Loop(_promotion(owner, document))
            self._adapters.telemetry.set_gauges(owner, loop.promotion.state)
            loop.task = asyncio.create_task(self._run(loop), name=f"promotion {owner}")
            loop.task.add_done_callback(_log_end)
            self._show(loop.promotion)
            self._wake_namespace(owner.namespace)
            return
        before = (loop.promotion.generation, loop.promotion.action)
        loop.promotion.document = document
        self._show(loop.promotion)
        if before != (loop.promotion.generation, loop.promotion.action):
            loop.wake.set()

    def remove(self, document: Document) -> None:
        """End the loop of a deleted object; the cluster deletes what it owned."""
        owner = _owner(document)
        loop = self._loops.get((owner.namespace, owner.name))
        if loop and loop.promotion.owner.uid == owner.uid:
            self._end(loop)

    def poll_now(self, model: str | None = None) -> None:
        """Poll the registry at once; for one registered model, or for all."""
        self._adapters.poller.expire(model)
        for loop in self._loops.values():
            loop.wake.set()

    def hung(self, seconds: float) -> list[str]:
        """Return the promotions whose loop ended, or whose current turn has taken longer than this."""
        now = time.monotonic()
        return [
            str(loop.promotion.owner)
            for loop in self._loops.values()
            if (loop.task and loop.task.done()) or (loop.busy_since is not None and now - loop.busy_since > seconds)
        ]

    def followed(self) -> frozenset[str]:
        """Return the uids of all promotions."""
        return frozenset(loop.promotion.owner.uid for loop in self._loops.values())

    async def close(self) -> None:
        """End all loops, each between two calls."""
        tasks = [loop.task for loop in self._loops.values() if loop.task]
        self._loops.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, loop: _Loop) -> None:
        owner = loop.promotion.owner
        del self._loops[owner.namespace, owner.name]
        self._adapters.telemetry.remove(owner)
        if self._adapters.notifier:
            self._adapters.notifier.forget(owner)
        if self._adapters.audience:
            self._adapters.audience.forget(owner)
        if loop.task:
            loop.task.cancel()
        self._wake_namespace(owner.namespace)

    def _show(self, promotion: Promotion) -> None:
        if self._adapters.audience:
            self._adapters.audience.show(promotion)

    def _wake_namespace(self, namespace: str) -> None:
        """Let promotions notice that another one took or released their target."""
        for (own_namespace, _), loop in self._loops.items():
            if own_namespace == namespace:
                loop.wake.set()

    async def _run(self, loop: _Loop) -> None:
        promotion = loop.promotion
        await asyncio.sleep(self._settle_seconds)
        while True:
            loop.wake.clear()
            loop.busy_since = time.monotonic()
            phase = promotion.state.phase
            promotion.target_holder = self._older_with_same_target(promotion)
            try:
                await self._turn(self._adapters, promotion)
                promotion.faults = 0
            except (RetryableError, PermanentError) as error:
                owner, kind = promotion.owner, "retryable" if isinstance(error, RetryableError) else "permanent"
                self._adapters.telemetry.errors.labels(owner.namespace, owner.name, kind).inc()
                log.warning("%s: %s; retrying", owner, error)
                await self._report_fault(self._adapters, promotion, error)
            loop.busy_since = None
            self._show(promotion)
            self._forget_unused_pointers()
            pause = self._pause(promotion, moved=promotion.state.phase != phase)
            # Not wait_for: until Python 3.12, it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await loop.wake.wait()

    def _older_with_same_target(self, promotion: Promotion) -> str:
        others = (loop.promotion for loop in self._loops.values())
        older = [
            other
            for other in others
            if other.owner.namespace == promotion.owner.namespace
            and other.target == promotion.target
            and other.age_order < promotion.age_order
        ]
        return min(older, key=lambda other: other.age_order).owner.name if older else ""

    def _pause(self, promotion: Promotion, *, moved: bool) -> float:
        if faults := promotion.faults:
            return backoff(faults, self._tick_seconds, _MAX_PAUSE_SECONDS)
        if moved:
            return 0.05
        state = promotion.state
        if state.phase not in RESTING or state.pending_tags or state.pending_events:
            return self._tick_seconds
        query = _query(promotion)
        # With the poll, whose times are spread; but the cluster is observed even while the registry is unavailable.
        return min(self._poll_seconds, self._adapters.poller.due_in(query)) if query else self._poll_seconds

    def _forget_unused_pointers(self) -> None:
        self._adapters.poller.retain({query for loop in self._loops.values() if (query := _query(loop.promotion))})


def _query(promotion: Promotion) -> Query | None:
    try:
        return parse_spec(promotion.document.get("spec")).model, promotion.state.stable_version
    except InvalidSpecError:
        return None


def _log_end(task: asyncio.Task[None]) -> None:
    """Log why a loop ended; the liveness probe does the rest."""
    if not task.cancelled() and (error := task.exception()):
        log.error("%s ended", task.get_name(), exc_info=error)


def _owner(document: Document) -> Owner:
    metadata = document["metadata"]
    return Owner(metadata["namespace"], metadata["name"], metadata["uid"])


def _promotion(owner: Owner, document: Document) -> Promotion:
    stored = document.get("status") or {}
    try:
        state = State.model_validate(stored)
    except ValidationError as error:
        log.warning("%s: the status is unreadable, starting from what is running: %s", owner, error)
        return Promotion(owner, document, State(), rewrite_status=True)
    return Promotion(owner, document, state, rewrite_status=bool(stored) and state.to_document() != stored)
