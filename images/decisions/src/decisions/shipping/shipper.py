"""The loop of the shipper: all logs that are its own, again and again, until it is told to end."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from decisions.errors import DecisionsError
from decisions.segments.folder import Claim, find_logs
from decisions.segments.reader import UnreadableError
from decisions.shipping.database import AwayError, Database
from decisions.shipping.handover import Handover, HandoverError
from decisions.shipping.log_shipper import LogShipper, Waiting
from decisions.shipping.metrics import Health, ShipperMetrics

logger = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_LAST_POLL_SECONDS = 0.2
_OBSERVE_SECONDS = 5.0
_TAKE_UP_SECONDS = 60.0
_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 0.5, 30.0
# Of one log before the next one has its turn.
_BATCHES_PER_TURN = 20
# Of the time to end, kept for uploading what could not be shipped.
_UPLOAD_SHARE = 0.3


@dataclass
class _Own:
    """A log that this shipper has claimed."""

    shipper: LogShipper
    claim: Claim


class Shipper:
    """Ships the logs in a folder."""

    def __init__(
        self,
        folder: Path,
        pod: str,
        database: Database,
        metrics: ShipperMetrics,
        health: Health,
        handover: Handover | None = None,
    ) -> None:
        """Take the folder of all logs, the name of this pod, and where what cannot be shipped is handed over."""
        self._folder, self._pod, self._handover = folder, pod, handover
        self._database, self._metrics, self._health = database, metrics, health
        self._own: dict[Path, _Own] = {}
        self._problem: str | None = None
        self._failures = 0
        self._observed = self._looked_for_more = -float("inf")

    def run(self, stop: threading.Event, shutdown_seconds: float) -> bool:
        """Ship until `stop` is set, then what is left of this pod; return whether nothing is left behind."""
        try:
            while not stop.is_set():
                more = self.turn()
                stop.wait(self._pause(more=more))
            return self._finish(time.monotonic() + shutdown_seconds)
        finally:
            for own in self._own.values():
                own.claim.release()
            self._own.clear()
            self._database.close()

    def turn(self) -> bool:
        """Give each log a turn, and return whether there is more to ship at once."""
        self._claim_logs()
        problem, more = None, False
        for path, own in list(self._own.items()):
            try:
                more |= own.shipper.turn(_BATCHES_PER_TURN)
                if own.shipper.folder.remove_if_used_up():
                    own.claim.release()
                    del self._own[path]
            except AwayError as error:
                problem = self._failed(error.cause, error)
                break  # for the other logs, too
            except (UnreadableError, OSError) as error:
                problem = self._failed("volume", error)
            self._health.alive()
        self._failures = self._failures + 1 if problem else 0
        problem = problem or self._take_up()
        self._observe()
        self._report(problem)
        return more and not problem

    def _claim_logs(self) -> None:
        for folder in find_logs(self._folder):
            # A log of another pod is left to that pod's shipper as long as it is written to.
            if folder.path in self._own or (folder.pod != self._pod and not folder.writer_is_gone()):
                continue
            try:
                claim = folder.claim()
            except OSError as error:
                self._failed("volume", error)
                continue
            if claim:
                if folder.pod != self._pod:
                    logger.info("took over the log %s of the pod %s", folder.log_id, folder.pod)
                self._own[folder.path] = _Own(LogShipper(folder, self._database, self._metrics), claim)

    def _failed(self, cause: str, error: Exception) -> str:
        self._metrics.failures.labels(cause).inc()
        return str(error)

    def _report(self, problem: str | None) -> None:
        """Tell the probes, and the log when it changes."""
        if problem != self._problem:
            if problem:
                logger.warning("%s", problem)
            elif self._problem:
                logger.info("shipping again")
        self._problem = problem
        self._health.turned(problem)

    def _pause(self, *, more: bool) -> float:
        """Return for how long to wait: longer after each failure, and not as long as the other shippers."""
        if not self._failures:
            return 0 if more else _POLL_SECONDS
        longest = min(_MOST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(self._failures - 1, 16))
        return longest * random.uniform(0.5, 1)  # noqa: S311 - spreads the load, keeps no secret

    def _observe(self) -> None:
        """Measure what waits, now and then: it reads the segments."""
        if time.monotonic() - self._observed < _OBSERVE_SECONDS:
            return
        self._observed = time.monotonic()
        found = [self._waiting(own.shipper) for own in self._own.values()]
        oldest = min((waiting.oldest for waiting in found if waiting.oldest is not None), default=None)
        self._metrics.waiting_bytes.set(sum(waiting.bytes for waiting in found))
        self._metrics.oldest.set(0 if oldest is None else max(0, time.time() - oldest))
        self._metrics.set_aside.set(sum(len(folder.set_aside()) for folder in find_logs(self._folder)))

    def _waiting(self, shipper: LogShipper) -> Waiting:
        try:
            return shipper.waiting()
        except (UnreadableError, OSError) as error:
            self._failed("volume", error)
            return Waiting()

    def _take_up(self) -> str | None:
        """Take up what another shipper handed over, one segment at a time; return what is wrong with that."""
        if self._handover is None or time.monotonic() - self._looked_for_more < (
            _POLL_SECONDS if self._handover.taking else _TAKE_UP_SECONDS
        ):
            return None
        self._looked_for_more = time.monotonic()
        try:
            self._metrics.taken_up.inc(self._handover.take_up(self._folder))
        except (HandoverError, OSError) as error:
            return self._failed("handover", error)
        return None

    def _finish(self, deadline: float) -> bool:
        """Ship the rest of this pod's logs until the deadline, or hand it over; return whether nothing is left."""
        logger.info("ending: the rest is shipped once the service has closed its log")
        last_turn = deadline
        if self._handover:
            self._handover.stop_taking()
            last_turn -= (deadline - time.monotonic()) * _UPLOAD_SHARE
        # A connection on which nothing arrives any more would hold up the end.
        watchdog = threading.Timer(max(0, last_turn - time.monotonic()), self._database.abort)
        watchdog.daemon = True
        watchdog.start()
        try:
            while time.monotonic() < last_turn:
                more = self.turn()
                if not more and not self._left():
                    return True
                time.sleep(0 if more else _LAST_POLL_SECONDS)
        finally:
            watchdog.cancel()
        return self._hand_over(deadline)

    def _left(self) -> list[_Own]:
        """Return this pod's logs that are still written to, or not yet shipped."""
        own = [own for own in self._own.values() if own.shipper.folder.pod == self._pod]
        return [log for log in own if log.shipper.folder.segments() or not log.shipper.folder.writer_is_gone()]

    def _hand_over(self, deadline: float) -> bool:
        """Hand over what is left, again and again until the deadline; return whether nothing is left."""
        while True:
            left = [own.shipper.folder for own in self._left() if own.shipper.folder.segments()]
            if not left:
                return True
            if self._handover is None:
                logger.error("%d logs have segments that are not shipped; they stay on the volume, and are lost with "
                             "it", len(left))  # fmt: skip
                return False
            try:
                for folder in left:
                    self._metrics.handed_over.inc(self._handover.hand_over(folder))
            except (DecisionsError, OSError) as error:
                self._failed("handover", error)
                if time.monotonic() < deadline:
                    time.sleep(_LAST_POLL_SECONDS)
                    continue
                logger.error("segments could not be handed over and stay on the volume: %s", error)  # noqa: TRY400
                return False
            return True
