"""Asks for drift reports beside the turns: rarely, because there is a new one every day, and without delaying any."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection

from promoter.decision.observation import DriftView
from promoter.errors import RetryableError
from promoter.ports import DriftReports

log = logging.getLogger(__name__)
# Between two looks at which models are to be asked for, and attempts after a failed one.
TICK_SECONDS, RETRY_SECONDS = 5.0, 30.0
_NOT_YET = DriftView(error="the decisions service has not been asked yet")


class DriftWatch:
    """The newest drift report of each model that promotions follow."""

    def __init__(
        self,
        reports: DriftReports,
        models: Callable[[], Collection[str]],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take where reports are, which models to ask for, the interval, a monotonic clock, and how to wait."""
        self._reports, self._models, self._seconds = reports, models, seconds
        self._clock, self._sleep = clock, sleep
        self._views: dict[str, DriftView] = {}
        self._next_at: dict[str, float] = {}

    def view(self, model: str) -> DriftView:
        """Return the newest report as last known; an error if the last attempt failed, or there was none."""
        return self._views.get(model, _NOT_YET)

    async def run(self) -> None:
        """Ask at the interval, for ever."""
        while True:
            for model in self._models():
                if self._clock() >= self._next_at.get(model, 0.0):
                    await self._ask(model)
            await self._sleep(min(TICK_SECONDS, self._seconds))

    async def _ask(self, model: str) -> None:
        try:
            self._views[model], pause = DriftView(await self._reports.newest(model)), self._seconds
        except RetryableError as error:
            log.warning("drift of %s is unknown: %s", model, error)
            self._views[model], pause = DriftView(error=str(error)), min(RETRY_SECONDS, self._seconds)
        self._next_at[model] = self._clock() + pause
