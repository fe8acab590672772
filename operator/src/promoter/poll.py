"""Polls the registry: at an interval, less often while it is unavailable, at once on request."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from promoter.api.spec import ModelRef
from promoter.decision.observation import RegistryView
from promoter.errors import PermanentError, RetryableError

# A pointer, and the stable version whose existence is checked along with it.
Query = tuple[ModelRef, str | None]


class PolledRegistry(Protocol):
    """What is polled of the registry."""

    async def desired_version(self, model: ModelRef) -> str | None:
        """Return the version that the pointer names, None if it names none."""

    async def version_exists(self, model: str, version: str) -> bool:
        """Return whether the registry has a version."""


@dataclass
class _Pointer:
    view: RegistryView
    answered_at: float
    next_at: float
    faults: int = 0


class Poller:
    """The last known answer to each query; one poll per query and interval, however many promotions share it."""

    def __init__(
        self, registry: PolledRegistry, seconds: float, max_seconds: float, clock: Callable[[], float]
    ) -> None:
        """Take the registry, the interval, its upper bound while backing off, and a monotonic clock."""
        self._registry, self._clock = registry, clock
        self._seconds, self._max_seconds = seconds, max_seconds
        self._pointers: dict[Query, _Pointer] = {}

    async def view(self, model: ModelRef, stable: str | None) -> RegistryView:
        """Return what the pointer names, and whether the stable version exists; asks the registry if it is time."""
        query = (model, stable)
        pointer = self._pointers.get(query)
        if pointer is None or self._clock() >= pointer.next_at:
            pointer = await self._poll(query, pointer)
            self._pointers[query] = pointer
        return pointer.view

    def expire(self, name: str | None = None) -> None:
        """Make the next view query the registry; for one registered model, or for all."""
        for (model, _), pointer in self._pointers.items():
            if name in {None, model.name}:
                pointer.next_at = 0.0

    def retain(self, queries: set[Query]) -> None:
        """Drop all other queries."""
        self._pointers = {query: pointer for query, pointer in self._pointers.items() if query in queries}

    def due_in(self, query: Query) -> float:
        """Return the seconds until a query is polled again; 0 for an unknown one."""
        pointer = self._pointers.get(query)
        return max(0.0, pointer.next_at - self._clock()) if pointer else 0.0

    @property
    def age(self) -> float:
        """Return the seconds since the registry's last answer, for the pointer with the oldest one; 0 if none."""
        return max((self._clock() - pointer.answered_at for pointer in self._pointers.values()), default=0.0)

    @property
    def models(self) -> frozenset[str]:
        """Return the registered models that are asked for."""
        return frozenset(model.name for model, _ in self._pointers)

    async def _poll(self, query: Query, last: _Pointer | None) -> _Pointer:
        faults, answered_at = (last.faults, last.answered_at) if last else (0, self._clock())
        try:
            view, faults = await self._ask(*query), 0
            answered_at = self._clock()
        except (RetryableError, PermanentError) as error:
            missing = last is not None and last.view.stable_missing
            view, faults = RegistryView(error=str(error), stable_missing=missing), faults + 1
        pause = self._seconds if not faults else min(self._seconds * 2 ** min(faults - 1, 10), self._max_seconds)
        now = self._clock()
        # Jitter spreads the calls of many operators; it only shortens the interval, which is a promise.
        return _Pointer(view, answered_at, now + pause * random.uniform(0.9, 1.0), faults)  # noqa: S311

    async def _ask(self, model: ModelRef, stable: str | None) -> RegistryView:
        desired = await self._registry.desired_version(model)
        missing = stable not in {None, desired} and not await self._registry.version_exists(model.name, stable or "")
        return RegistryView(desired, stable_missing=missing)
