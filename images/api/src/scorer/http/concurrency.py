"""How many requests run at once: a bounded queue, whose bound follows the pod's speed, and who waits outside of it.

All that run share one event loop, so a request waits for about as long as a few of the loop's turns take. That wait is
measured, not the time to an answer: an answer may also wait for a canary, which no refusal here would relieve. The
signal and its threshold are those of DAGOR (Zhou et al., "Overload Control for Scaling WeChat Microservices", 2018).
Deciding by the least of several measurements, so that a burst that the queue was made for does no harm, is from CoDel
(Nichols and Jacobson, "Controlling Queue Delay", 2012). A bound that falls by a factor and rises in steps settles (Chiu
and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance", 1989). Decision record 16.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterable, Sized
from typing import Protocol

# Turns from a request's last byte to its answer: it is read, decoded, collected with others (two), and answered.
TURNS = 5
# How long so many turns may take: DAGOR's threshold. A whole core takes 16 ms for 256 requests with reasons.
TARGET_SECONDS = 0.02
# Measurements for one decision, and the pause between two of them.
MEASUREMENTS = 4
MEASURE_PAUSE_SECONDS = 0.02
# The bound does not fall below this: fewer requests would only cost throughput, since rows are scored together.
LEAST_REQUESTS = 64
# The bound rises by this part of the configured maximum.
STEPS = 16
# How long a client that retries at once waits at most for its next refusal. Shorter pauses take more of the time for
# scoring; longer ones let single clients starve on a busy node.
MAX_PAUSE_SECONDS = 0.1
# How often paused connections are looked at. While the service is full, only those paused since the last time are
# scored.
LOOK_SECONDS = 0.01
# For so long, no request must have found the service full until all that are paused may be scored.
CALM_SECONDS = 0.05


class Pausable(Protocol):
    """A connection that need not be read for a while.

    Attributes:
        waited: Whether a request that is read now has waited for so long that it is refused even if there is room.
    """

    waited: bool

    def resume(self) -> None:
        """Read the connection again."""
        ...


class Concurrency:
    """Counts running requests, and decides how many may run and which refused connections are read."""

    def __init__(self, requests: int) -> None:
        """Take how many requests may run at the same time at most."""
        self._most = requests
        self.limit = requests
        # Requests still waiting for their bodies, which are no load.
        self.arriving = 0
        # Requests that are answered while their tasks still wait to be collected by the event loop.
        self._answered = 0
        # Connections refused because of overload, and when, in this order. They are not read for a while: clients that
        # retry at once would otherwise take the time needed to score accepted requests.
        self._paused: dict[Pausable, float] = {}
        # Whether they will be looked at.
        self._looking = False
        # When a request last found no room.
        self._full_at = -math.inf
        self.measuring = False
        self._waits: list[float] = []

    def room(self, tasks: Sized) -> int:
        """Return how many more requests may run; negative if the limit has just fallen."""
        return self.limit - len(tasks) + self._answered + self.arriving

    def full(self, tasks: Sized, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether a request that has just arrived may not run."""
        if self.room(tasks) > 0:
            return False
        self._full_at = loop.time()
        return True

    def count_answered(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop counting the request of the current task, which the event loop collects in its next turn."""
        if not self._answered:
            loop.call_soon(self._forget_answered)
        self._answered += 1

    def _forget_answered(self) -> None:
        self._answered = 0

    def measure(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure how long the event loop's turns take now; no more until `measuring` is false again."""
        self.measuring = True
        loop.call_soon(self._count_turn, loop, time.perf_counter(), TURNS - 1)

    def _count_turn(self, loop: asyncio.AbstractEventLoop, started: float, left: int) -> None:
        if left:
            loop.call_soon(self._count_turn, loop, started, left - 1)
            return
        self._waits.append(time.perf_counter() - started)
        if len(self._waits) == MEASUREMENTS:
            self.limit = next_limit(self.limit, min(self._waits), self._most)
            self._waits.clear()
        loop.call_later(MEASURE_PAUSE_SECONDS, self._measure_again)

    def _measure_again(self) -> None:
        self.measuring = False

    def pause(self, connection: Pausable, loop: asyncio.AbstractEventLoop, tasks: Sized) -> None:
        """Resume a connection that was refused and is not read when there is room, and soon in any case."""
        now = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_SECONDS, self._look, loop, tasks, now)
        self._paused[connection] = now

    def forget(self, connection: Pausable) -> None:
        """Forget a connection that is closed."""
        self._paused.pop(connection, None)

    def _look(self, loop: asyncio.AbstractEventLoop, tasks: Sized, last: float) -> None:
        """Resume the paused connections that may be scored, and those that must be refused again."""
        now, room = loop.time(), self.room(tasks)
        calm = now - self._full_at >= CALM_SECONDS
        if calm:
            self._resume_last(room, -math.inf)
        else:
            # Clients that have just been answered take most of the room. A few others get a chance each time.
            self._resume_last(min(room, max(1, self.limit // STEPS)), last)
        self._resume_first(now - MAX_PAUSE_SECONDS, loop, waited=not calm)
        self._looking = bool(self._paused)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look, loop, tasks, now)

    def _resume_last(self, count: int, since: float) -> None:
        """Resume at most so many connections that were paused since then, the last first: they have waited least."""
        while count > 0 and self._paused and self._paused[last := next(reversed(self._paused))] >= since:
            del self._paused[last]
            last.resume()
            count -= 1

    def _resume_first(self, until: float, loop: asyncio.AbstractEventLoop, *, waited: bool) -> None:
        """Resume the connections that were paused until then; what they sent has waited for too long if `waited`.

        Such a request is refused even if there is room now: others can be answered sooner. Then its connection is the
        last one, so no client starves.
        """
        resumed = list(itertools.takewhile(lambda connection: self._paused[connection] <= until, self._paused))
        for connection in resumed:
            del self._paused[connection]
            connection.waited = waited
            connection.resume()
        if resumed and waited:
            # After the next look at the sockets.
            loop.call_soon(loop.call_soon, _no_longer_waited, resumed)


def _no_longer_waited(connections: Iterable[Pausable]) -> None:
    for connection in connections:
        connection.waited = False


def next_limit(limit: int, wait: float, most: int) -> int:
    """Return how many requests may run at once from now on.

    Args:
        limit: How many might run so far.
        wait: How long requests waited meanwhile, in seconds.
        most: How many may ever run.
    """
    if wait <= TARGET_SECONDS:
        return min(most, limit + max(1, most // STEPS))
    return max(min(LEAST_REQUESTS, most), int(limit * max(TARGET_SECONDS / wait, 0.5)))
