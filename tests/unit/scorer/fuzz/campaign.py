"""A campaign against one running service: so many requests of all kinds, from several connections at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unit.scorer.fuzz.codings import coded
from unit.scorer.fuzz.connections import ATTACKS, hold
from unit.scorer.fuzz.documents import Documents, Shot
from unit.scorer.fuzz.oracle import Oracle
from unit.scorer.fuzz.tables import Tables
from unit.scorer.fuzz.wire import Connection

WORKERS = 8
Maker = Callable[[random.Random], Shot]


@dataclass
class Campaign:
    """Requests from a seed; each worker's dice has a seed of its own, so that a failure can be played again.

    Attributes:
        sent: Requests so far, by kind.
    """

    port: int
    oracle: Oracle
    applicants: Sequence[Mapping[str, Any]]
    seed: int
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._documents = Documents(self.oracle, self.applicants)
        self._tables = Tables(self.oracle, self.applicants, random.Random(self.seed))

    async def run(self, requests: int) -> None:
        """Send so many requests more, and hold every answer to its check."""
        until, start = self.sent.total() + requests, self.sent.total()
        async with asyncio.TaskGroup() as group:
            for worker in range(WORKERS):
                group.create_task(self._work(f"{self.seed}/{start}/{worker}", until))

    async def _work(self, seed: str, until: int) -> None:
        dice, rounds = random.Random(seed), 0
        try:
            while self.sent.total() < until:
                rounds += 1
                if dice.random() < 0.5:
                    attack = dice.choices(*zip(*ATTACKS, strict=True))[0]
                    self.sent[attack.__name__] += await attack(self.port, self._documents, dice)
                else:
                    await self._documents_on_one_connection(dice)
        except (AssertionError, OSError, TimeoutError, ValueError) as error:
            error.add_note(f"in round {rounds} of the dice with the seed {seed!r}")
            raise

    async def _documents_on_one_connection(self, dice: random.Random) -> None:
        own = self._documents
        makers: list[tuple[Maker, int]] = [
            (own.valid, 2), (own.single, 8), (own.records, 3), (own.lines, 3), (own.columns, 6), (own.csv, 2),
            (self._tables.shot, 4),
        ]  # fmt: skip
        connection = await Connection.open(self.port)
        for maker in dice.choices(*zip(*makers, strict=True), k=dice.randint(1, 6)):
            shot, kind = maker(dice), maker.__name__
            if dice.random() < 0.25:
                shot, kind = coded(shot, dice), "coded"
            hold(shot, await connection.ask(shot.request))
            self.sent[kind] += 1
        connection.close()
