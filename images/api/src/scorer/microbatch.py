"""Answers together what arrives together: one call of the model for two turns of the event loop.

Reading a network's weights from memory costs more than calculating one row with them, so sixteen rows together cost
little more than one. Nobody waits for others to come: the first turn is what the sockets held anyway, and the second
what has reached them while the first was read. Where nothing has, it is over within microseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from scorer.application import CodeRows, FloatRows

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class _Asked(NamedTuple, Generic[Answer]):
    numeric: FloatRows
    codes: CodeRows
    answer: asyncio.Future[Answer]


class MicroBatcher(Generic[Answer]):
    """Asks about single applications for many callers; for one event loop's thread alone."""

    def __init__(self, function: Callable[[FloatRows, CodeRows], Sequence[Answer]]) -> None:
        """Take what answers N rows, float32 [N, numeric features] and int64 [N, categorical features]."""
        self._function = function
        self._asked: list[_Asked[Answer]] = []

    async def ask(self, numeric: FloatRows, codes: CodeRows) -> Answer:
        """Return the function's answer to one row, of [1, numeric] and [1, categorical] features.

        Raises:
            Exception: whatever the function raises about this row.
        """
        loop = asyncio.get_running_loop()
        if not self._asked:
            # Runs behind all that is ready now, and behind all that is ready then.
            loop.call_soon(loop.call_soon, self._answer)
        answer: asyncio.Future[Answer] = loop.create_future()
        self._asked.append(_Asked(numeric, codes, answer))
        return await answer

    def _answer(self) -> None:
        together, self._asked = self._asked, []
        self._settle(together)

    def _settle(self, together: list[_Asked[Answer]]) -> None:
        try:
            answers = self._function(
                np.concatenate([asked.numeric for asked in together]),
                np.concatenate([asked.codes for asked in together]),
            )
        except Exception as error:
            if len(together) > 1:
                log.exception("%d requests failed together and are answered one by one", len(together))
                for asked in together:
                    self._settle([asked])
            elif not together[0].answer.done():
                together[0].answer.set_exception(error)
            return
        for asked, answer in zip(together, answers, strict=True):
            # Whoever asked may have been cancelled meanwhile.
            if not asked.answer.done():
                asked.answer.set_result(answer)
