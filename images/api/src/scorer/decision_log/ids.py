"""Decision ids: UUIDv7 (RFC 9562), which sort by time, with room for the rows of a batch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

# The lowest bits of an id are 0, so that the id of a batch's row is the batch's first id plus the row.
ROW_BITS = 20
# RFC 9562, 6.2, method 1: a counter in `rand_a`, which begins again with each millisecond.
_COUNTER_BITS, _VERSION, _VARIANT = 12, 7, 0b10
_PROCESS_BITS = 62 - ROW_BITS


class DecisionIds:
    """Makes the ids of one process: each is greater than the one before; use it from one thread only.

    The first half of an id is the millisecond and a counter, the second half this process's random number. Processes
    that differ in it never make the same id, however many they make in one millisecond. When the clock was set back, or
    more than 4,096 ids are needed in a millisecond, ids run ahead of the clock.

    Every request needs one, so they are made without a call in Python: once `timer` has reached `ends`, call `renew`;
    then take the next one from `made`.

    Attributes:
        ends: When the timer has passed the clock's millisecond.
        made: The next ids.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns, timer: Callable[[], float] = time.perf_counter) -> None:
        """Draw the process's number; `clock` tells the nanoseconds since 1970, and `timer` seconds of its own."""
        self._clock, self._timer = clock, timer
        number = f"{_VARIANT << 62 | secrets.randbits(_PROCESS_BITS) << ROW_BITS:016x}"
        # All that can follow a millisecond.
        self._ends = [f"-{_VERSION}{count:03x}-{number[:4]}-{number[4:]}" for count in range(1 << _COUNTER_BITS)]
        self._millisecond = -1
        self.ends = 0.0
        self.made: Iterator[str] = iter(())
        self.renew()

    def next(self) -> str:
        """Return the next id."""
        if self._timer() >= self.ends:
            self.renew()
        return next(self.made)

    def renew(self) -> None:
        """Look at the clock, and begin its millisecond unless ids are there already or ahead of it."""
        now, timer = self._clock(), self._timer()
        millisecond = now // 1_000_000
        self.ends = timer + ((millisecond + 1) * 1_000_000 - now) / 1e9
        if millisecond > self._millisecond:
            self._millisecond = millisecond - 1
            self.made = chain.from_iterable(self._by_millisecond())

    def _by_millisecond(self) -> Iterator[Iterator[str]]:
        """Yield the ids of the next millisecond, again and again."""
        while True:
            self._millisecond += 1
            digits = f"{self._millisecond:012x}"
            yield map(f"{digits[:8]}-{digits[8:]}".__add__, self._ends)


def octets_of(ids: Iterable[str]) -> bytes:
    """Return ids as 16 bytes each."""
    return bytes.fromhex("".join(ids).replace("-", ""))
