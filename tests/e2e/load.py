"""A steady stream of real requests, and a record of who was answered by what.

Open loop: a request is sent whenever its time has come, however slow the answers are, so that a stall shows as what it
is. Applicants come again and again with other figures: whom one belongs to is decided by the applicant alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

APPLICANTS = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's end: times in seconds since 1970, and the status (0 where no answer came)."""

    sent: float
    done: float
    applicant: str
    status: int
    version: str = ""
    pod: str = ""
    detail: str = ""

    @property
    def by_canary(self) -> bool:
        return "-canary-" in self.pod


@dataclass
class Load:
    """Sends `rate` requests a second to `url` with a Host header and a key, from a thread, until the block ends."""

    url: str
    host: str
    key: str
    applications: Sequence[dict[str, Any]]
    rate: float = 30.0
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), name=f"load {self.host}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def since(self, moment: float) -> list[Answer]:
        """Return the answers to requests sent from a moment on, in the order of sending."""
        return sorted((answer for answer in self.answers if answer.sent >= moment), key=lambda answer: answer.sent)

    async def _send(self) -> None:
        dice = random.Random(7)
        timeout = aiohttp.ClientTimeout(total=15)
        started, running = time.monotonic(), set()
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=64)) as session:
            for count in itertools.count(1):
                task = asyncio.create_task(self._one(session, f"applicant-{dice.randrange(APPLICANTS)}", dice))
                running.add(task)
                task.add_done_callback(running.discard)
                await asyncio.sleep(max(0.0, started + count / self.rate - time.monotonic()))
                if self._stop.is_set():
                    break
            await asyncio.gather(*running)

    async def _one(self, session: aiohttp.ClientSession, applicant: str, dice: random.Random) -> None:
        body = json.dumps(dice.choice(self.applications))
        headers = {"Host": self.host, "Content-Type": "application/json", "X-Applicant-Id": applicant,
                   "X-API-Key": self.key}  # fmt: skip
        sent = time.time()
        try:
            async with session.post(f"{self.url}/v1/score", data=body, headers=headers) as response:
                text = await response.text()
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            detail = f"{type(error).__name__}: {error}"
            self.answers.append(Answer(sent, time.time(), applicant, 0, detail=detail))
            return
        done = time.time()
        if status != 200:
            self.answers.append(Answer(sent, done, applicant, status, detail=text[:200]))
            return
        answer = json.loads(text)
        version, pod = answer["model"]["version"], answer["served_by"]
        self.answers.append(Answer(sent, done, applicant, status, version, pod))


def failed(answers: Iterable[Answer]) -> list[Answer]:
    """Return the requests that a client got no good answer to."""
    return [answer for answer in answers if answer.status != 200]


def turned_back(answers: Iterable[Answer], version: str, *, until: float = math.inf) -> list[tuple[Answer, Answer]]:
    """Return who was answered by the canary of a version and later, asking again, by another version.

    Only requests sent before `until` count, the moment from which the weight may fall.
    """
    by_applicant: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda answer: answer.sent):
        if answer.status == 200 and answer.sent < until:
            by_applicant[answer.applicant].append(answer)
    return [pair for own in by_applicant.values() for pair in _turns(own, version)]


def _turns(own: Sequence[Answer], version: str) -> Iterator[tuple[Answer, Answer]]:
    first = next((answer for answer in own if answer.by_canary and answer.version == version), None)
    if first is not None:
        yield from ((first, later) for later in own if later.sent > first.done and later.version != version)
