"""One loop per ModelPromotion, fed by watch events."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from promoter.api.spec import InvalidSpecError, ModelRef, parse_spec
from promoter.decision.state import RESTING, State
from promoter.errors import PermanentError, RetryableError
from promoter.ports import Owner
from promoter.reconcile import Subject, World, reconcile, tell_fault

log = logging.getLogger(__name__)
Document = dict[str, Any]
_MOST_PAUSE_SECONDS = 30.0


@dataclass
class _Loop:
    subject: Subject
    kicked: asyncio.Event = field(default_factory=asyncio.Event)
    busy_since: float | None = None
    task: asyncio.Task[None] | None = None


class Scheduler:
    """Starts, hurries and ends the loops."""

    def __init__(self, world: World, *, poll_seconds: float, tick_seconds: float) -> None:
        """Take the adapters, and how often a resting and a moving promotion look around."""
        self._world, self._poll_seconds, self._tick_seconds = world, poll_seconds, tick_seconds
        self._loops: dict[tuple[str, str], _Loop] = {}

    def seen(self, document: Document) -> None:
        """Take note of an object that is new or changed.

        The state in memory is newer than any watch event's: a known object's status is not read again.
        """
        owner = _owner(document)
        key = (owner.namespace, owner.name)
        loop = self._loops.get(key)
        if loop and loop.subject.owner.uid != owner.uid:
            self.gone(document | {"metadata": {**document["metadata"], "uid": loop.subject.owner.uid}})
            loop = None
        if loop is None:
            loop = self._loops[key] = _Loop(Subject(owner, document, _state(document)))
            self._world.telemetry.show(owner, loop.subject.state)
            loop.task = asyncio.create_task(self._run(loop), name=f"promotion {owner.namespace}/{owner.name}")
            loop.task.add_done_callback(_tell)
            return
        before = (loop.subject.generation, loop.subject.action)
        loop.subject.document = document
        if before != (loop.subject.generation, loop.subject.action):
            loop.kicked.set()

    def gone(self, document: Document) -> None:
        """End the loop of a deleted object; what it owned goes by itself."""
        owner = _owner(document)
        loop = self._loops.get((owner.namespace, owner.name))
        if loop and loop.subject.owner.uid == owner.uid:
            del self._loops[owner.namespace, owner.name]
            self._world.telemetry.forget(owner)
            if loop.task:
                loop.task.cancel()

    def hurry(self, model: str | None = None) -> None:
        """Ask the registry at once; for one registered model, or for all."""
        self._world.poller.hurry(model)
        for loop in self._loops.values():
            loop.kicked.set()

    def hung(self, seconds: float) -> list[str]:
        """Return the promotions whose loop ended, or has been in one turn for longer than this."""
        now = time.monotonic()
        return [
            f"{namespace}/{name}"
            for (namespace, name), loop in self._loops.items()
            if (loop.task and loop.task.done()) or (loop.busy_since is not None and now - loop.busy_since > seconds)
        ]

    async def close(self) -> None:
        """End all loops, each between two calls."""
        tasks = [loop.task for loop in self._loops.values() if loop.task]
        self._loops.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, loop: _Loop) -> None:
        while True:
            loop.kicked.clear()
            loop.busy_since = time.monotonic()
            phase = loop.subject.state.phase
            try:
                await reconcile(self._world, loop.subject)
                loop.subject.faults = 0
            except (RetryableError, PermanentError) as error:
                owner, kind = loop.subject.owner, "retryable" if isinstance(error, RetryableError) else "permanent"
                self._world.telemetry.errors.labels(owner.namespace, owner.name, kind).inc()
                log.warning("%s/%s: %s; trying again", owner.namespace, owner.name, error)
                await tell_fault(self._world, loop.subject, error)
            loop.busy_since = None
            self._trim()
            pause = self._pause(loop, moved=loop.subject.state.phase != phase)
            try:
                await asyncio.wait_for(loop.kicked.wait(), pause)
            except TimeoutError:
                continue

    def _pause(self, loop: _Loop, *, moved: bool) -> float:
        if faults := loop.subject.faults:
            return min(self._tick_seconds * 2.0 ** min(faults - 1, 10), _MOST_PAUSE_SECONDS)
        if moved:
            return 0.05
        state = loop.subject.state
        if state.phase not in RESTING or state.pending_tags or state.pending_events:
            return self._tick_seconds
        model = _model(loop)
        # With the poll, whose times are spread; an unreachable registry is no reason to look away from the cluster.
        return min(self._poll_seconds, self._world.poller.due_in(model)) if model else self._poll_seconds

    def _trim(self) -> None:
        self._world.poller.forget({model for loop in self._loops.values() if (model := _model(loop))})


def _model(loop: _Loop) -> ModelRef | None:
    try:
        return parse_spec(loop.subject.document.get("spec")).model
    except InvalidSpecError:
        return None


def _tell(task: asyncio.Task[None]) -> None:
    """Log why a loop ended; the liveness probe takes it from there."""
    if not task.cancelled() and (error := task.exception()):
        log.error("%s ended", task.get_name(), exc_info=error)


def _owner(document: Document) -> Owner:
    metadata = document["metadata"]
    return Owner(metadata["namespace"], metadata["name"], metadata["uid"])


def _state(document: Document) -> State:
    try:
        return State.model_validate(document.get("status") or {})
    except ValidationError as error:
        log.warning("status of %s is unreadable, starting from what runs: %s", document["metadata"]["name"], error)
        return State()
