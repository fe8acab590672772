"""SIGTERM in the middle of something that must be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from trainer.errors import TerminatedError
from trainer.termination import heed, undisturbed


@pytest.fixture(autouse=True)
def _heeded() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    heed()
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_ends_a_training_at_once() -> None:
    with pytest.raises(TerminatedError):
        signal.raise_signal(signal.SIGTERM)


def test_it_waits_until_the_block_is_through() -> None:
    done: list[str] = []

    def block() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            done.append("the rest of the block")

    with pytest.raises(TerminatedError):
        block()
    assert done
    with pytest.raises(TerminatedError):
        signal.raise_signal(signal.SIGTERM)


def test_a_block_that_nobody_ends_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with undisturbed():
        pass
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_may_have_such_blocks() -> None:
    failed: list[BaseException] = []

    def block() -> None:
        try:
            with undisturbed():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert not failed
