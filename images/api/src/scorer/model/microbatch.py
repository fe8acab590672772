"""Answers together what arrives together: one call of the model for two turns of the event loop.

Reading a network's weights from memory costs more than calculating one row with them, so sixteen rows together cost
little more than one. Nobody waits for others to come: the first turn is what the sockets held anyway, and the second
what has reached them while the first was read. Where nothing has, it is over within microseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from scorer.applications.decoder import CodeRows, FloatRows

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class MicroBatcher(Generic[Answer]):
    """Asks about single applications for many callers; for one event loop's thread alone."""

    def __init__(self, function: Callable[[FloatRows, CodeRows], Sequence[Answer]]) -> None:
        """Take what answers N rows, float32 [N, numeric features] and int64 [N, categorical features]."""
        self._function = function
        # Three lists, for which nothing has to be taken apart again.
        self._numeric: list[FloatRows] = []
        self._codes: list[CodeRows] = []
        self._answers: list[asyncio.Future[Answer]] = []

    async def ask(self, numeric: FloatRows, codes: CodeRows) -> Answer:
        """Return the function's answer to one row, of [1, numeric] and [1, categorical] features.

        Raises:
            Exception: whatever the function raises about this row.
        """
        loop = asyncio.get_running_loop()
        if not self._answers:
            # Runs behind all that is ready now, and behind all that is ready then.
            loop.call_soon(loop.call_soon, self._answer)
        answer: asyncio.Future[Answer] = loop.create_future()
        self._numeric.append(numeric)
        self._codes.append(codes)
        self._answers.append(answer)
        return await answer

    def _answer(self) -> None:
        numeric, codes, answers = self._numeric, self._codes, self._answers
        self._numeric, self._codes, self._answers = [], [], []
        self._settle(numeric, codes, answers)

    def _settle(self, numeric: list[FloatRows], codes: list[CodeRows], answers: list[asyncio.Future[Answer]]) -> None:
        try:
            found = self._function(np.concatenate(numeric), np.concatenate(codes))
        except Exception as error:
            if len(answers) > 1:
                log.exception("%d requests failed together and are answered one by one", len(answers))
                for row, code, answer in zip(numeric, codes, answers, strict=True):
                    self._settle([row], [code], [answer])
            elif not answers[0].done():
                answers[0].set_exception(error)
            return
        for answer, value in zip(answers, found, strict=True):
            # Whoever asked may have been cancelled meanwhile.
            if not answer.done():
                answer.set_result(value)
