"""Polls the registry's pointers: at an interval, less often while the registry is unavailable, at once on request."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from promoter.api.spec import ModelRef
from promoter.decision.observation import RegistryView
from promoter.errors import PermanentError, RetryableError

DesiredVersion = Callable[[ModelRef], Awaitable[str | None]]


@dataclass
class _Pointer:
    view: RegistryView
    answered_at: float
    next_at: float
    faults: int = 0


class Poller:
    """The last known version of each pointer; one call per pointer and interval, however many promotions share it."""

    def __init__(
        self, desired_version: DesiredVersion, seconds: float, max_seconds: float, clock: Callable[[], float]
    ) -> None:
        """Take the registry's query, the interval, its upper bound while backing off, and a monotonic clock."""
        self._desired_version, self._clock = desired_version, clock
        self._seconds, self._max_seconds = seconds, max_seconds
        self._pointers: dict[ModelRef, _Pointer] = {}

    async def view(self, model: ModelRef) -> RegistryView:
        """Return what the pointer names; queries the registry if it is time."""
        pointer = self._pointers.get(model)
        if pointer is None or self._clock() >= pointer.next_at:
            pointer = await self._poll(model, pointer)
            self._pointers[model] = pointer
        return pointer.view

    def expire(self, name: str | None = None) -> None:
        """Make the next view query the registry; for one registered model, or for all."""
        for model, pointer in self._pointers.items():
            if name in {None, model.name}:
                pointer.next_at = 0.0

    def retain(self, models: set[ModelRef]) -> None:
        """Drop all other pointers."""
        self._pointers = {model: pointer for model, pointer in self._pointers.items() if model in models}

    def due_in(self, model: ModelRef) -> float:
        """Return the seconds until a pointer is polled again; 0 for an unknown one."""
        pointer = self._pointers.get(model)
        return max(0.0, pointer.next_at - self._clock()) if pointer else 0.0

    @property
    def age(self) -> float:
        """Return the seconds since the registry's last answer, for the pointer with the oldest one; 0 if none."""
        return max((self._clock() - pointer.answered_at for pointer in self._pointers.values()), default=0.0)

    async def _poll(self, model: ModelRef, last: _Pointer | None) -> _Pointer:
        faults, answered_at = (last.faults, last.answered_at) if last else (0, self._clock())
        try:
            view, faults = RegistryView(await self._desired_version(model)), 0
            answered_at = self._clock()
        except (RetryableError, PermanentError) as error:
            view, faults = RegistryView(error=str(error)), faults + 1
        pause = self._seconds if not faults else min(self._seconds * 2 ** min(faults - 1, 10), self._max_seconds)
        now = self._clock()
        # Jitter spreads the calls of many operators; it only shortens the interval, which is a promise.
        return _Pointer(view, answered_at, now + pause * random.uniform(0.9, 1.0), faults)  # noqa: S311
