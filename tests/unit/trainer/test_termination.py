"""SIGTERM inside and outside of a critical section."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from trainer.errors import TerminatedError
from trainer.termination import raise_on_sigterm, sigterm_deferred


@pytest.fixture(autouse=True)
def _raising() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    raise_on_sigterm()
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_a_run_at_once() -> None:
    with pytest.raises(TerminatedError):
        signal.raise_signal(signal.SIGTERM)


def test_sigterm_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []

    def block() -> None:
        with sigterm_deferred():
            signal.raise_signal(signal.SIGTERM)
            done.append("the rest of the block")

    with pytest.raises(TerminatedError):
        block()
    assert done
    with pytest.raises(TerminatedError):
        signal.raise_signal(signal.SIGTERM)


def test_without_a_signal_the_block_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_deferred():
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_may_use_the_block() -> None:
    failed: list[BaseException] = []

    def block() -> None:
        try:
            with sigterm_deferred():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert not failed
