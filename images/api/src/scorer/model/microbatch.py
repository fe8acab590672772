"""Micro-batching: one call of the model answers all requests that arrive within two turns of the event loop.

Reading a network's weights from memory costs more than computing one row with them, so sixteen rows cost little more
than one. No request waits for others to arrive: the first turn takes what the sockets already held, the second what
reached them while the first was being read. If nothing did, that turn ends within microseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from scorer.applications.rows import CodeRows, FloatRows

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class MicroBatcher(Generic[Answer]):
    """Collects single applications of many callers into one call; use it from one event loop's thread only."""

    def __init__(self, function: Callable[[FloatRows, CodeRows], Sequence[Answer]]) -> None:
        """Take the function that answers N rows, float32 [N, numeric features] and int64 [N, categorical features]."""
        self._function = function
        # Three parallel lists, so that nothing has to be unpacked again.
        self._numeric: list[FloatRows] = []
        self._codes: list[CodeRows] = []
        self._answers: list[asyncio.Future[Answer]] = []

    @property
    def gathering(self) -> Sequence[asyncio.Future[Answer]]:
        """The answers that the next call will give; it has them all once one of them is there."""
        return self._answers

    async def submit(self, numeric: FloatRows, codes: CodeRows) -> Answer:
        """Return the function's answer to one row, of [1, numeric] and [1, categorical] features.

        Raises:
            Exception: Whatever the function raises for this row.
        """
        loop = asyncio.get_running_loop()
        if not self._answers:
            # Runs after all callbacks that are ready now, and after those that are ready then.
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
                log.exception("%d applications failed in one call and are retried one by one", len(answers))
                for row, code, answer in zip(numeric, codes, answers, strict=True):
                    self._settle([row], [code], [answer])
            elif not answers[0].done():
                answers[0].set_exception(error)
            return
        for answer, value in zip(answers, found, strict=True):
            # The caller may have been cancelled in the meantime.
            if not answer.done():
                answer.set_result(value)
