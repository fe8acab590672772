"""Scores together what arrives together: one call of the network for each turn of the event loop.

Reading a network's weights from memory costs more than calculating one row with them, so sixteen rows together cost
little more than one. Nobody waits for others to come: a turn is what the sockets held anyway.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scorer.application import CodeRows, FloatRows
from scorer.network import Network

log = logging.getLogger(__name__)
Scores = npt.NDArray[np.float32]


class _Asked(NamedTuple):
    numeric: FloatRows
    codes: CodeRows
    scores: asyncio.Future[Scores]


class MicroBatcher:
    """Scores rows for many callers; for one event loop's thread alone."""

    def __init__(self, network: Network) -> None:
        """Take the network."""
        self._network = network
        self._asked: list[_Asked] = []

    async def score(self, numeric: FloatRows, codes: CodeRows) -> Scores:
        """Return what `Network.score` does, together with all that others ask in this turn."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            # Runs behind all that is ready now.
            loop.call_soon(self._answer)
        asked = _Asked(numeric, codes, loop.create_future())
        self._asked.append(asked)
        return await asked.scores

    def _answer(self) -> None:
        together, self._asked = self._asked, []
        self._settle(together)

    def _settle(self, together: list[_Asked]) -> None:
        try:
            self._score(together)
        except Exception as error:
            if len(together) > 1:
                log.exception("%d requests failed together and are scored one by one", len(together))
                for asked in together:
                    self._settle([asked])
            elif not together[0].scores.done():
                together[0].scores.set_exception(error)

    def _score(self, together: list[_Asked]) -> None:
        scores = self._network.score_many(
            np.concatenate([asked.numeric for asked in together]), np.concatenate([asked.codes for asked in together])
        )
        start = 0
        for asked in together:
            end = start + len(asked.numeric)
            # Whoever asked may have been cancelled meanwhile.
            if not asked.scores.done():
                asked.scores.set_result(scores[start:end])
            start = end
