"""Decision ids: UUIDv7 (RFC 9562), which sort by time, with room for the rows of a batch."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable, Sequence

# The lowest bits of an id are 0, so that the id of a batch's row is the batch's first id plus the row.
ROW_BITS = 20
# RFC 9562, 6.2, method 1: a counter in `rand_a`, which begins again with each millisecond.
_COUNTER_BITS, _VERSION, _VARIANT = 12, 7, 0b10
_PROCESS_BITS = 62 - ROW_BITS
_MOST = (1 << _COUNTER_BITS) - 1
# Looked up, because formatting a number takes longer than all else that an id needs.
_DIGITS = tuple(f"{count:03x}" for count in range(_MOST + 1))
_pack = struct.Struct(">Q").pack


class DecisionIds:
    """Makes the ids of one process: each is greater than the one before; use it from one thread only.

    The first half of an id is the millisecond and a counter, the second half this process's random number. Processes
    that differ in it never make the same id, however many they make in one millisecond.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """Draw the process's number; `clock` tells the nanoseconds since 1970."""
        self._clock = clock
        low = _pack(_VARIANT << 62 | secrets.randbits(_PROCESS_BITS) << ROW_BITS)
        self._low, text = low, low.hex()
        self._end = f"-{text[:4]}-{text[4:]}"
        # The millisecond of the last id, when it ends by the clock, its first id's first half, and how that is written.
        self._millisecond, self._ends, self._high, self._start = -1, 0, 0, ""
        self._count = _MOST

    def next(self) -> tuple[int, str]:
        """Return the next id: its first half as a number, of which `octets_of` makes the id, and the whole as text.

        When the clock was set back, or more than 4,096 ids are needed in a millisecond, ids run ahead of the clock.
        """
        now = self._clock()
        if now >= self._ends or self._count == _MOST:
            self._begin_millisecond(now // 1_000_000)
        self._count = count = self._count + 1
        return self._high + count, f"{self._start}{_DIGITS[count]}{self._end}"

    def octets_of(self, halves: Sequence[int]) -> bytes:
        """Return ids of this process, at least one, as 16 bytes each."""
        return self._low.join(map(_pack, halves)) + self._low

    def _begin_millisecond(self, now: int) -> None:
        self._millisecond = millisecond = max(now, self._millisecond + 1)
        self._ends, self._count = (millisecond + 1) * 1_000_000, -1
        self._high = millisecond << 16 | _VERSION << _COUNTER_BITS
        digits = f"{millisecond:012x}"
        self._start = f"{digits[:8]}-{digits[8:]}-{_VERSION}"
