"""Asks the registry for pointers: every so often, less often while it does not answer, at once when hurried."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from promoter.api.spec import ModelRef
from promoter.decision.observation import RegistryView
from promoter.errors import PermanentError, RetryableError
from promoter.ports import Registry


@dataclass
class _Known:
    view: RegistryView
    answered_at: float
    next_at: float
    faults: int = 0


class Poller:
    """The pointers' last known versions; one call per pointer and interval, however many ask."""

    def __init__(self, registry: Registry, seconds: float, max_seconds: float, clock: Callable[[], float]) -> None:
        """Take the registry, the interval, its bound while backing off, and a monotonic clock."""
        self._registry, self._seconds, self._max_seconds, self._clock = registry, seconds, max_seconds, clock
        self._known: dict[ModelRef, _Known] = {}

    async def view(self, model: ModelRef) -> RegistryView:
        """Return what the pointer names, asking when it is time."""
        known = self._known.get(model)
        if known is None or self._clock() >= known.next_at:
            known = await self._ask(model, known)
            self._known[model] = known
        return known.view

    def hurry(self, name: str | None = None) -> None:
        """Ask anew at the next chance; for one registered model, or for all."""
        for model, known in self._known.items():
            if name in {None, model.name}:
                known.next_at = 0.0

    def forget(self, kept: set[ModelRef]) -> None:
        """Drop pointers that nobody asks for any more."""
        self._known = {model: known for model, known in self._known.items() if model in kept}

    def due_in(self, model: ModelRef) -> float:
        """Return the seconds until a pointer is to be asked for again; 0 for one that never was."""
        known = self._known.get(model)
        return max(0.0, known.next_at - self._clock()) if known else 0.0

    @property
    def age(self) -> float:
        """Return the seconds since the registry's last answer, for the pointer that has the oldest; 0 without any."""
        return max((self._clock() - known.answered_at for known in self._known.values()), default=0.0)

    async def _ask(self, model: ModelRef, last: _Known | None) -> _Known:
        faults, answered_at = (last.faults, last.answered_at) if last else (0, self._clock())
        try:
            view, faults = RegistryView(await self._registry.desired(model)), 0
            answered_at = self._clock()
        except (RetryableError, PermanentError) as error:
            view, faults = RegistryView(error=str(error)), faults + 1
        pause = self._seconds if not faults else min(self._seconds * 2 ** min(faults - 1, 10), self._max_seconds)
        now = self._clock()
        # Jitter spreads many operators' calls; earlier only, so that the interval is a promise.
        return _Known(view, answered_at, now + pause * random.uniform(0.9, 1.0), faults)  # noqa: S311
