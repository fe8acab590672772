"""Decision ids: UUIDv7 (RFC 9562), which sort by time, with room for the rows of a batch."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable

# The lowest bits of an id are 0, so that the id of a batch's row is the batch's first id plus the row.
ROW_BITS = 20
# RFC 9562, 6.2, method 1: a counter in `rand_a`, which begins again with each millisecond.
_COUNTER_BITS, _VERSION, _VARIANT = 12, 7, 0b10
_PROCESS_BITS = 62 - ROW_BITS
_MOST = (1 << _COUNTER_BITS) - 1
# Looked up, because formatting a number takes longer than all else that an id needs.
_DIGITS = tuple(f"{count:03x}" for count in range(_MOST + 1))


class DecisionIds:
    """Makes the ids of one process: each is greater than the one before; use it from one thread only.

    The first half of an id is the millisecond and a counter, the second half this process's random number. Processes
    that differ in it never make the same id, however many they make in one millisecond.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """Draw the process's number; `clock` tells the nanoseconds since 1970."""
        self._clock = clock
        number = f"{_VARIANT << 62 | secrets.randbits(_PROCESS_BITS) << ROW_BITS:016x}"
        self._end = f"-{number[:4]}-{number[4:]}"
        # The millisecond of the last id, when it ends by the clock, and how its ids begin.
        self._millisecond, self._ends, self._start = -1, 0, ""
        self._count = _MOST

    def next(self) -> str:
        """Return the next id.

        When the clock was set back, or more than 4,096 ids are needed in a millisecond, ids run ahead of the clock.
        """
        now = self._clock()
        if now >= self._ends or self._count == _MOST:
            self._begin_millisecond(now // 1_000_000)
        self._count = count = self._count + 1
        return f"{self._start}{_DIGITS[count]}{self._end}"

    def _begin_millisecond(self, now: int) -> None:
        self._millisecond = millisecond = max(now, self._millisecond + 1)
        self._ends, self._count = (millisecond + 1) * 1_000_000, -1
        digits = f"{millisecond:012x}"
        self._start = f"{digits[:8]}-{digits[8:]}-{_VERSION}"


def octets_of(ids: Iterable[str]) -> bytes:
    """Return ids as 16 bytes each."""
    return bytes.fromhex("".join(ids).replace("-", ""))
