"""Restore autoscalers that a deleted ModelPromotion kept from scaling in.

A ModelPromotion has no finalizer, so that it can be deleted without the operator. What it created is deleted by its
owner references; what it changed in an autoscaler is found here, however long the operator was away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from promoter.decision.capacity import SETTLE_SECONDS
from promoter.errors import PermanentError, RetryableError
from promoter.ports import ScaleInHold

log = logging.getLogger(__name__)


class Autoscalers(Protocol):
    """What is needed of the cluster. Every method may raise RetryableError or PermanentError."""

    async def scale_in_holds(self, namespace: str) -> tuple[ScaleInHold, ...]:
        """Return the autoscalers of a namespace ("" for all) that are kept from scaling in."""

    async def restore_scale_in(self, namespace: str, name: str, policy: str) -> None:
        """Let an autoscaler scale in again, by this policy."""


class Leftovers:
    """Finds and restores them."""

    def __init__(
        self,
        autoscalers: Autoscalers,
        namespaces: Sequence[str],
        followed: Callable[[], frozenset[str]],
        clock: Callable[[], float],
    ) -> None:
        """Take what is needed.

        Args:
            autoscalers: Those of the cluster.
            namespaces: The watched namespaces; none for all.
            followed: Returns the uids of the ModelPromotions that exist.
            clock: A monotonic clock, in seconds.
        """
        self._autoscalers, self._namespaces = autoscalers, tuple(namespaces) or ("",)
        self._followed, self._clock = followed, clock
        # Since when nobody is known for whom an autoscaler is kept from scaling in.
        self._since: dict[ScaleInHold, float] = {}
        # What was last logged of a namespace whose autoscalers cannot be read or changed.
        self._problems: dict[str, str] = {}

    async def run(self, seconds: float) -> None:
        """Look for them at this interval."""
        while True:
            await asyncio.sleep(seconds)
            await self.restore()

    async def restore(self) -> None:
        """Restore those that have been left for as long as a rollout's own end would leave them.

        By then the load is measured without the canary, and every existing ModelPromotion is known. What fails is tried
        again the next time.
        """
        now, seen = self._clock(), dict[ScaleInHold, float]()
        for namespace in self._namespaces:
            problem = ""
            try:
                found = await self._autoscalers.scale_in_holds(namespace)
                left = [hold for hold in found if hold.uid not in self._followed()]
                seen |= {hold: self._since.get(hold, now) for hold in left}
                for hold in (hold for hold in left if now - seen[hold] >= SETTLE_SECONDS):
                    log.info("HorizontalPodAutoscaler %s/%s may scale in again", hold.namespace, hold.autoscaler)
                    await self._autoscalers.restore_scale_in(hold.namespace, hold.autoscaler, hold.policy)
            except (RetryableError, PermanentError) as error:
                problem = str(error)
            self._log_change(namespace, problem)
        self._since = seen

    def _log_change(self, namespace: str, problem: str) -> None:
        """Log a problem when it appears, changes or ends: a namespace may be gone or forbidden for good."""
        if problem == self._problems.get(namespace, ""):
            return
        self._problems[namespace] = problem
        where = f"namespace {namespace}" if namespace else "all namespaces"
        if problem:
            log.warning("autoscalers in %s that may have to be restored: %s", where, problem)
        else:
            log.info("autoscalers in %s can be restored again", where)
