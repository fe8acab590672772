"""Micro-batching: what comes together is scored together, each caller gets its own rows, nobody suffers for others."""

from __future__ import annotations

import asyncio
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from scorer.application import CodeRows, FloatRows
from scorer.microbatch import MicroBatcher
from scorer.network import Network


class Sums:
    """Stands for a network: a row's score is its number plus its code; it fails on negative numbers."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def score_many(self, numeric: FloatRows, codes: CodeRows) -> npt.NDArray[np.float32]:
        self.calls.append(len(numeric))
        if (numeric < 0).any():
            raise RuntimeError("a negative number")
        return (numeric[:, 0] + codes[:, 0]).astype(np.float32)


@pytest.fixture
def network() -> Sums:
    return Sums()


@pytest.fixture
def batcher(network: Sums) -> MicroBatcher:
    return MicroBatcher(cast("Network", network))


async def score(batcher: MicroBatcher, *numbers: float) -> list[float]:
    numeric = np.array(numbers, np.float32)[:, None]
    return list(map(float, await batcher.score(numeric, np.full((len(numbers), 1), 100))))


async def test_what_one_turn_brings_is_one_call_and_each_gets_its_own(network: Sums, batcher: MicroBatcher) -> None:
    found = await asyncio.gather(score(batcher, 1, 2, 3), score(batcher, 4), score(batcher, 5, 6))
    assert list(found) == [[101, 102, 103], [104], [105, 106]]
    assert network.calls == [6]


async def test_nobody_waits_for_others_to_come(network: Sums, batcher: MicroBatcher) -> None:
    first = asyncio.create_task(score(batcher, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert network.calls == [1]
    assert await score(batcher, 2) == [102]
    assert await first == [101]
    assert network.calls == [1, 1]


async def test_a_row_that_fails_fails_alone(network: Sums, batcher: MicroBatcher) -> None:
    found = await asyncio.gather(score(batcher, 1), score(batcher, 2, -1), score(batcher, 3), return_exceptions=True)
    assert [found[0], found[2]] == [[101], [103]]
    assert isinstance(found[1], RuntimeError)
    assert network.calls == [4, 1, 2, 1]
    assert await score(batcher, 4) == [104]


@pytest.mark.parametrize("number", [1, -1])
async def test_who_is_gone_is_left_out(batcher: MicroBatcher, number: float) -> None:
    gone, stays = asyncio.create_task(score(batcher, number)), asyncio.create_task(score(batcher, 2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [102]
    assert gone.cancelled()
