"""Micro-batching: requests that arrive together share a call, each gets its own answer, failures stay isolated."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from scorer.applications.rows import CodeRows, FloatRows
from scorer.model.microbatch import MicroBatcher


class Sums:
    """Stands in for a network: a row's score is its number plus its code; it fails on negative numbers."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, numeric: FloatRows, codes: CodeRows) -> list[float]:
        self.calls.append(len(numeric))
        if (numeric < 0).any():
            raise RuntimeError("a negative number")
        return [*map(float, numeric[:, 0] + codes[:, 0])]


@pytest.fixture
def network() -> Sums:
    return Sums()


@pytest.fixture
def batcher(network: Sums) -> MicroBatcher[float]:
    return MicroBatcher(network)


async def score(batcher: MicroBatcher[float], number: float) -> float:
    return await batcher.submit(np.array([[number]], np.float32), np.array([[100]]))


async def test_rows_of_one_turn_share_a_call_and_each_gets_its_own_answer(
    network: Sums, batcher: MicroBatcher[float]
) -> None:
    assert await asyncio.gather(*(score(batcher, number) for number in (1, 2, 3))) == [101, 102, 103]
    assert network.calls == [3]


async def test_rows_of_the_next_turn_join_the_call_and_no_row_waits_longer(
    network: Sums, batcher: MicroBatcher[float]
) -> None:
    first = asyncio.create_task(score(batcher, 1))
    await asyncio.sleep(0)
    second = asyncio.create_task(score(batcher, 2))
    await asyncio.sleep(0)
    assert not network.calls
    await asyncio.sleep(0)
    assert network.calls == [2]
    assert await score(batcher, 3) == 103
    assert [await first, await second] == [101, 102]
    assert network.calls == [2, 1]


async def test_a_row_that_fails_fails_alone(network: Sums, batcher: MicroBatcher[float]) -> None:
    found = await asyncio.gather(*(score(batcher, number) for number in (1, -1, 3)), return_exceptions=True)
    assert [found[0], found[2]] == [101, 103]
    assert isinstance(found[1], RuntimeError)
    assert network.calls == [3, 1, 1, 1]
    assert await score(batcher, 4) == 104


@pytest.mark.parametrize("number", [1, -1])
async def test_a_cancelled_caller_is_left_out(batcher: MicroBatcher[float], number: float) -> None:
    gone, stays = asyncio.create_task(score(batcher, number)), asyncio.create_task(score(batcher, 2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 102
    assert gone.cancelled()
