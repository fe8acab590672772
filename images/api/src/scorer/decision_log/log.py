"""The decision log in the event loop: gathers decisions in groups, and has a thread make them durable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec
from msgspec import UnsetType

from scorer.answers import Decision, Reason
from scorer.applications.rows import CodeRows, FloatRows
from scorer.decision_log.events import DecidedRows, Event, Single, event_of
from scorer.decision_log.ids import DecisionIds
from scorer.decision_log.metrics import Cause, LogMetrics
from scorer.decision_log.origin import Origin
from scorer.decision_log.segment import Version
from scorer.decision_log.writer import Failure, Group, SegmentWriter
from scorer.model.identity import Identity
from scorer.problems import Problem
from scorer.request_context import client

log = logging.getLogger(__name__)
Mode = Literal["log", "require"]
# How long decisions gather in the mode log: about what a killed process loses. Each group takes about a millisecond of
# the processor, most of it for the fsync, so a tenth of the time would cost 5 % of a core. In the mode require,
# decisions gather while those before them are being written.
GATHER_SECONDS = 0.2
# Of decisions that wait to be written, beside as many that are being written. They are kept as they will be stored, so
# bytes are what they cost: about 150 for a single application, and 80 for a row of a batch. The last one may exceed it.
QUEUE_BYTES = 16 * 1024 * 1024
# So many single decisions become an event together, which takes .1 ms.
SINGLES = 128
# After a failure.
RETRY_SECONDS = 0.5
# In the mode require: for so long a decision waits for those before it to be written.
WAIT_SECONDS = 5.0
# For so long the end of the process waits for the last groups.
FLUSH_SECONDS = 5.0
# For so long /readyz tells of a decision that was dropped.
TELL_SECONDS = 10.0
# MessagePack's header of an array: a byte, then the length as 32 bits.
_ARRAY, _HEADER_BYTES = b"\xdd", 5
_encode_into = msgspec.msgpack.Encoder().encode_into
_now = time.perf_counter


class _Gathering:
    """A group that still grows, and those who wait for it: None if it is durable, or why it cannot be."""

    __slots__ = ("_decisions", "_events", "events", "identity", "singles", "version", "waiting")

    def __init__(self) -> None:
        self.events, self.singles = bytearray(_HEADER_BYTES), list[Single]()
        # Those of the single decisions.
        self.identity: Identity | None = None
        self.version = 0
        self._events = self._decisions = 0
        self.waiting: list[asyncio.Future[Failure | None]] = []

    @property
    def decisions(self) -> int:
        """How many there are."""
        return self._decisions + len(self.singles)

    def size(self) -> int:
        """Return the events' bytes."""
        self.encode()
        return len(self.events) - _HEADER_BYTES

    def add(self, event: Event, decisions: int) -> None:
        """Add an event."""
        _encode_into(event, self.events, -1)
        self._events += 1
        self._decisions += decisions

    def encode(self) -> None:
        """Make an event of the single decisions, if there are any."""
        if singles := self.singles:
            self.add(event_of(singles, self.version), len(singles))
            singles.clear()

    def complete(self, versions: Sequence[Version]) -> Group:
        """Return the group as it is written."""
        self.encode()
        self.events[:_HEADER_BYTES] = _ARRAY + self._events.to_bytes(_HEADER_BYTES - 1, "big")
        return Group(self._decisions, self.events, versions)


class DecisionLog:
    """Takes decisions in the event loop's thread; in the mode log it never waits."""

    def __init__(self, writer: SegmentWriter, mode: Mode, metrics: LogMetrics) -> None:
        """Take what writes to disk, whether answers wait for it, and where to count."""
        self._writer, self.waits, self._metrics = writer, mode == "require", metrics
        self._ids = DecisionIds()
        # The version whose decisions on single applications are taken without asking anything else.
        self._accepted: Identity | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decision-log")
        self._gathering, self._writing = _Gathering(), _Gathering()
        self._filled, self._closing = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._versions: tuple[Version, ...] = ()
        self._identity: Identity | None = None
        # Why nothing is written now, and until when nothing more is taken in the mode require.
        self._failure: Failure | None = None
        self._refusing_until = 0.0
        # Why a decision was dropped last, and until when /readyz tells of it.
        self._dropped: Cause = "queue-full"
        self._told_until = 0.0
        metrics.queue_decisions.set_function(lambda: self._gathering.decisions + self._writing.decisions)
        metrics.queue_bytes.set_function(lambda: self._gathering.size() + self._writing.size())
        metrics.segment_bytes.set_function(lambda: writer.bytes_on_disk)
        metrics.segment_limit.set(writer.max_bytes)

    @property
    def problem(self) -> str | None:
        """What keeps decisions from being logged now, for people; None if nothing does."""
        waiting = self._gathering.decisions + self._writing.decisions
        if self._failure:
            return f"decisions are not being logged ({self._failure.cause}): {self._failure.reason}; {waiting} wait"
        if self._told_until > asyncio.get_running_loop().time():
            return f"decisions were not logged a moment ago ({self._dropped}); {waiting} wait"
        return None

    def _key_of(self, identity: Identity, contract: bytes) -> int:
        """Return the key by which events name a model version; `contract` is its contract.json, byte for byte."""
        if identity is not self._identity:
            key = len(self._versions) + 1
            self._versions += (Version(key, identity.name, identity.version, identity.digests, contract),)
            self._identity = identity
        return len(self._versions)

    def add_one(
        self,
        identity: Identity,
        contract: bytes,
        origin: Origin,
        applicant_id: str | None,
        numeric: FloatRows,
        codes: CodeRows,
        probability: float,
        points: int,
        decision: Decision,
        reasons: tuple[Reason, ...] | UnsetType,
    ) -> str:
        """Take the decision on a single application, and return its id.

        All single applications come by one endpoint. In the mode log, a decision that cannot be taken is counted and
        dropped. Contract is the version's contract.json, byte for byte; the other arguments are those of `Single`.

        Raises:
            Problem: 503 if it cannot be taken, in the mode require alone.
        """
        ended, ids = _now(), self._ids
        if ended >= ids.ends:
            ids.renew()
        decision_id = next(ids.made)
        if identity is not self._accepted and not self._accepts(identity, contract):
            return decision_id
        singles = self._gathering.singles
        singles.append((
            decision_id, ended, origin, applicant_id, client.get(), numeric, codes, probability, points, decision,
            reasons,
        ))  # fmt: skip
        if len(singles) >= SINGLES:
            self._gathering.encode()
            self._accepted = None
        return decision_id

    def _accepts(self, identity: Identity, contract: bytes) -> bool:
        """Return whether a decision on a single application can be taken, as `add_one` does.

        Asked again after all that may change it: for the first one of a group, of a version and of an event, after each
        attempt to write, and after a batch.
        """
        gathering = self._gathering
        if (len(gathering.events) >= QUEUE_BYTES or self._refusing_until) and not self._takes(1):
            return False
        if identity is not gathering.identity:
            gathering.encode()
            gathering.identity, gathering.version = identity, self._key_of(identity, contract)
        self._filled.set()
        self._accepted = None if self._refusing_until else identity
        return True

    def add_rows(self, identity: Identity, contract: bytes, origin: Origin, rows: DecidedRows) -> None:
        """Take the decisions of a batch, as `add_one` takes a single one."""
        gathering = self._gathering
        if (len(gathering.events) >= QUEUE_BYTES or self._refusing_until) and not self._takes(rows.count):
            return
        key = self._key_of(identity, contract)
        gathering.add(rows.event(self._ids.next(), key, client.get(), origin), rows.count)
        self._accepted = None
        self._filled.set()

    async def durable(self) -> None:
        """Wait until what was added last is durable; only in the mode require.

        Raises:
            Problem: 503 if it cannot be made durable. Then it is not in the log.
        """
        # A future of its own, since one client's end must not end the wait of the others.
        told: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._gathering.waiting.append(told)
        if failure := await told:
            raise _not_logged(failure.cause)

    def start(self) -> None:
        """Begin to write, in the running event loop."""
        self._task = asyncio.create_task(self._keep_writing())
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Write what was added so far, count what cannot be written, and end the log."""
        self._closing.set()
        self._filled.set()
        if self._task:
            await asyncio.wait([self._task], timeout=FLUSH_SECONDS)
        if left := self._writing.decisions + self._gathering.decisions:
            self._metrics.not_logged.labels("shutdown").inc(left)
            log.error("%d decisions were not logged before the process ended", left)
        if self._task and not self._task.done():
            self._task.cancel()
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._thread.shutdown(wait=False)

    async def _keep_writing(self) -> None:
        self._note(await self._in_thread(self._writer.open))
        while not self._closing.is_set() or self._gathering.decisions:
            await self._filled.wait()
            if not self.waits:
                await self._pause(GATHER_SECONDS)
            self._filled.clear()
            self._writing = self._begin_group()
            if self._writing.decisions:
                await self._write()

    async def _write(self) -> None:
        """Make the group durable: in the mode require in one attempt, else in as many as it takes."""
        gathered = self._writing
        group = gathered.complete(self._versions)
        while True:
            failure = await self._in_thread(lambda: self._writer.write(group))
            self._note(failure)
            if failure is None:
                self._metrics.decisions.inc(gathered.decisions)
                self._metrics.groups.inc()
                self._metrics.fsync.observe(self._writer.fsync_seconds)
            elif not self.waits and not self._closing.is_set():
                await self._pause(RETRY_SECONDS)
                continue
            elif not self.waits:
                failure = Failure("shutdown", failure.reason)
            self._writing = _Gathering()
            self._settle(gathered, failure)
            return

    async def _in_thread(self, work: Callable[[], Failure | None]) -> Failure | None:
        """Do the writer's work. While that takes very long, requests do not wait for it."""
        working = asyncio.get_running_loop().run_in_executor(self._thread, work)
        while not (await asyncio.wait([working], timeout=WAIT_SECONDS))[0]:
            self._note(Failure("disk", f"writing has taken more than {WAIT_SECONDS:.0f} seconds"))
            if self.waits:
                self._refusing_until = float("inf")
                self._refuse_gathered()
        return working.result()

    def _refuse_gathered(self) -> None:
        """Refuse the decisions that wait for a group which may never be written."""
        self._settle(self._begin_group(), self._failure)

    def _begin_group(self) -> _Gathering:
        """Return what has gathered so far, and let the next group gather."""
        gathered, self._gathering, self._accepted = self._gathering, _Gathering(), None
        return gathered

    def _settle(self, gathered: _Gathering, failure: Failure | None) -> None:
        """Count decisions that will not be written, and tell those who wait for them."""
        if failure:
            self._metrics.not_logged.labels(failure.cause).inc(gathered.decisions)
        for told in gathered.waiting:
            if not told.done():
                told.set_result(failure)

    def _note(self, failure: Failure | None) -> None:
        """Remember whether decisions can be written, and log it if that changes."""
        if failure and (self._failure is None or self._failure.cause != failure.cause):
            log.error("decisions are not being logged (%s): %s", failure.cause, failure.reason)
        elif self._failure and not failure:
            log.info("decisions are being logged again")
        self._failure, self._accepted = failure, None
        self._refusing_until = asyncio.get_running_loop().time() + RETRY_SECONDS if failure and self.waits else 0.0

    def _takes(self, decisions: int) -> bool:
        """Return whether decisions can be taken although the queue is full or the last group failed.

        Raises:
            Problem: 503 if they cannot, in the mode require alone.
        """
        now = asyncio.get_running_loop().time()
        full = len(self._gathering.events) >= QUEUE_BYTES
        if not full and now >= self._refusing_until:
            return True
        cause: Cause = self._failure.cause if self._failure else "queue-full"
        self._metrics.not_logged.labels(cause).inc(decisions)
        if self.waits:
            raise _not_logged(cause)
        self._dropped, self._told_until = cause, now + TELL_SECONDS
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell of an unexpected error: nothing will be written any more."""
        if not task.cancelled() and (error := task.exception()):
            log.error("the decision log failed", exc_info=error)
            self._note(Failure("disk", f"the log failed: {error!r}"))
            if self.waits:
                self._refusing_until = float("inf")
                gathered, self._writing = self._writing, _Gathering()
                self._settle(gathered, self._failure)
                self._refuse_gathered()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the process ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()


def _not_logged(cause: Cause) -> Problem:
    return Problem(
        503, f"the decision could not be logged ({cause}), so it is not answered; try again",
        headers=(("Retry-After", "1"),), code="decision-not-logged",
    )  # fmt: skip
