"""Steady clients of the scoring service, and a record of which version and pod answered whom.

The load is open loop: a request is sent when its time has come, however slow the answers are, so that a stall is
visible in the record. Applicants come again and again with different applications, because the applicant alone decides
which arm answers.
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

from localcluster.console import wait_for

APPLICANTS = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one request: times in seconds since 1970, and the status (0 if no answer came).

    `decision_id` is empty without a decision log.
    """

    sent: float
    done: float
    applicant: str
    status: int
    version: str = ""
    pod: str = ""
    detail: str = ""
    decision_id: str = ""

    @property
    def by_canary(self) -> bool:
        return "-canary-" in self.pod


@dataclass
class Clients:
    """Clients that send `rate` requests a second to `url`, with a Host header and a key, until the block ends."""

    url: str
    host: str
    key: str
    applications: Sequence[dict[str, Any]]
    rate: float = 30.0
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()), name=f"clients of {self.host}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_answers(self, count: int = 50) -> None:
        """Wait until this many more requests have been answered, so that faults meet clients at work."""
        wanted = len(self.answers) + count

        def missing() -> str | None:
            found = len(self.answers)
            return None if found >= wanted else f"{wanted - found} more are due"

        wait_for("the clients' answers", missing, timeout_seconds=120)

    def since(self, moment: float) -> list[Answer]:
        """Return the answers to requests sent at or after a moment, in the order of sending."""
        return sorted((answer for answer in self.answers if answer.sent >= moment), key=lambda answer: answer.sent)

    async def _send(self) -> None:
        rng = random.Random(7)
        timeout = aiohttp.ClientTimeout(total=15)
        started, running = time.monotonic(), set()
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=64)) as session:
            for count in itertools.count(1):
                task = asyncio.create_task(self._score_one(session, f"applicant-{rng.randrange(APPLICANTS)}", rng))
                running.add(task)
                task.add_done_callback(running.discard)
                await asyncio.sleep(max(0.0, started + count / self.rate - time.monotonic()))
                if self._stop.is_set():
                    break
            await asyncio.gather(*running)

    async def _score_one(self, session: aiohttp.ClientSession, applicant: str, rng: random.Random) -> None:
        body = json.dumps(rng.choice(self.applications))
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
        self.answers.append(
            Answer(sent, done, applicant, status, version, pod, decision_id=answer.get("decision_id", ""))
        )


def failed(answers: Iterable[Answer]) -> list[Answer]:
    """Return the requests that did not get a score."""
    return [answer for answer in answers if answer.status != 200]


def sent_back(
    answers: Iterable[Answer], version: str, *, since: float = -math.inf, until: float = math.inf
) -> list[tuple[Answer, Answer]]:
    """Return the applicants whom a new version answered and another version answered afterwards.

    Args:
        answers: The record of all clients.
        version: The new version, whichever pod served it: the canary's, or a stable one that was updated already.
        since: Requests sent before this moment do not count.
        until: Neither do requests sent from this moment on, when the weight may fall.

    Returns:
        The version's first answer to an applicant, and a later one by another version.
    """
    by_applicant: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in sorted(answers, key=lambda answer: answer.sent):
        if answer.status == 200 and since <= answer.sent < until:
            by_applicant[answer.applicant].append(answer)
    return [pair for own in by_applicant.values() for pair in _returns(own, version)]


def _returns(own: Sequence[Answer], version: str) -> Iterator[tuple[Answer, Answer]]:
    ours = [answer for answer in own if answer.version == version]
    if ours:
        # Requests overlap: what was sent before the first of these answers came may have been answered by either.
        first = min(ours, key=lambda answer: answer.done)
        yield from ((first, later) for later in own if later.sent > first.done and later.version != version)
