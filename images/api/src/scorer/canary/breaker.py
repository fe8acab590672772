"""A circuit breaker: a canary that keeps failing is skipped for a moment, so that it slows no request down."""

from __future__ import annotations

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 1.0
# The outcome of a request that an open breaker kept from the canary.
SKIPPED = "skipped"


class CircuitBreaker:
    """Opens after several failures in a row, and closes again after a second."""

    def __init__(self) -> None:
        """Start closed."""
        self._failures, self._open_until = 0, 0.0

    def allows(self, now: float) -> bool:
        """Return whether a request may be tried at this perf_counter."""
        return now >= self._open_until

    def record(self, now: float, *, healthy: bool) -> None:
        """Take the outcome of a request that was tried."""
        self._failures = 0 if healthy else self._failures + 1
        if self._failures >= FAILURES_TO_OPEN:
            self._failures, self._open_until = 0, now + OPEN_SECONDS

    def reset(self) -> None:
        """Close, for another canary."""
        self._failures, self._open_until = 0, 0.0
