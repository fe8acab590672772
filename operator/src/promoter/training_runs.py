"""Report how training went: its Jobs end before anything could read metrics from them, but MLflow remembers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from promoter.errors import PermanentError, RetryableError
from promoter.ports import RunStatus
from promoter.telemetry import Telemetry

log = logging.getLogger(__name__)


class Runs(Protocol):
    """Where runs are tracked."""

    async def last_runs(self, model: str) -> dict[RunStatus, float]:
        """Return when the newest run of a model with each status ended, in seconds since 1970."""


class TrainingRuns:
    """Keeps the metric of training runs, for the models that promotions follow."""

    def __init__(
        self,
        runs: Runs,
        models: Callable[[], Collection[str]],
        telemetry: Telemetry,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take where runs are tracked, which models to ask for, the operator's metrics, and how to wait."""
        self._runs, self._models, self._telemetry, self._sleep = runs, models, telemetry, sleep

    async def run(self, seconds: float) -> None:
        """Ask at this interval, for ever; without an answer, what was reported last stays."""
        while True:
            for model in self._models():
                try:
                    newest = await self._runs.last_runs(model)
                except (RetryableError, PermanentError) as error:
                    log.warning("training runs of %s are unknown: %s", model, error)
                    continue
                for status, at in newest.items():
                    self._telemetry.training_runs.labels(model, status).set(at)
            await self._sleep(seconds)
