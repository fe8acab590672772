"""The circuit breaker: opens after failures in a row, closes by itself."""

from __future__ import annotations

from scorer.canary.breaker import FAILURES_TO_OPEN, OPEN_SECONDS, CircuitBreaker


def failing(times: int, now: float = 100.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(times):
        breaker.record(now, healthy=False)
    return breaker


def test_it_opens_after_failures_in_a_row_and_closes_after_a_while() -> None:
    assert failing(FAILURES_TO_OPEN - 1).allows(100.0)
    breaker = failing(FAILURES_TO_OPEN)
    assert not breaker.allows(100.0 + OPEN_SECONDS - 0.01)
    assert breaker.allows(100.0 + OPEN_SECONDS)


def test_a_success_starts_the_count_again() -> None:
    breaker = failing(FAILURES_TO_OPEN - 1)
    breaker.record(100.0, healthy=True)
    breaker.record(100.0, healthy=False)
    assert breaker.allows(100.0)


def test_another_canary_starts_with_a_closed_breaker() -> None:
    breaker = failing(FAILURES_TO_OPEN)
    breaker.reset()
    assert breaker.allows(100.0)
