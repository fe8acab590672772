"""The scoring service's own code in a process of its own, which scores inputs again: contracts/replay.schema.json."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Literal

import msgspec

from decisions.errors import DecisionsError
from decisions.replay.errors import LaterError

# It takes half a second to start, and 70 MB while it waits for the next replay.
IDLE_SECONDS = 300.0
_MOST_BYTES = 1 << 20
# What the process gets of this one's environment: no password and no key.
_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


class Scorecard(msgspec.Struct, frozen=True):
    """The scale of score points."""

    base_points: float
    base_odds: float
    points_to_double: float


class Question(msgspec.Struct, frozen=True):
    """What is asked; the fields are those of the contract."""

    folder: str
    inputs: msgspec.Raw
    probability: float
    reasons: Sequence[str] | None
    single: bool
    scorecard: Scorecard


class Runtime(msgspec.Struct, frozen=True):
    """What scored."""

    scorer_sha256: str
    onnxruntime: str
    machine: str
    cpu: str
    cpu_features: list[str]


class Replayed(msgspec.Struct, frozen=True, tag_field="kind", tag="replayed"):
    """The decision, computed again."""

    probability: float
    rows: int
    points: int
    decision: Literal["approve", "decline"]
    grade: str | None
    reasons: list[str] | None
    runtime: Runtime


class Refused(msgspec.Struct, frozen=True, tag_field="kind", tag="refused"):
    """Why it cannot be computed."""

    reason: str


class ScoringProcess:
    """The process: started by the first question, ended when there was none for a while; one question at a time."""

    def __init__(
        self, versions: int, memory_mebibytes: int, seconds: float, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Take how many versions it keeps, its memory, and how long an answer and the next question may take."""
        self._arguments = (f"--versions={versions}", f"--memory-mebibytes={memory_mebibytes}")
        self._seconds, self._idle_seconds = seconds, idle_seconds
        self._process: Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The process's number while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def ask(self, question: Question) -> Replayed | Refused:
        """Return the answer to a question.

        Raises:
            LaterError: There is none in time, or the process ended.
        """
        if self._idle:
            self._idle.cancel()
        try:
            line = await self._answer(msgspec.json.encode(question) + b"\n")
            answer: Replayed | Refused = msgspec.json.decode(line, type=Replayed | Refused)
        except BaseException:
            # Whatever it still answers would be taken for the answer to the next question.
            await self.close()
            raise
        self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._kill)
        return answer

    async def close(self) -> None:
        """End the process."""
        if self._idle:
            self._idle.cancel()
        process, self._process = self._process, None
        if process:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _answer(self, question: bytes) -> bytes:
        if self._process is None or self._process.returncode is not None:
            self._process = await self._start()
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise DecisionsError("the process that scores has no pipes")
        try:
            async with asyncio.timeout(self._seconds):
                process.stdin.write(question)
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise LaterError(f"scoring the inputs took longer than {self._seconds:g} s") from error
        except (OSError, ValueError) as error:
            raise LaterError(f"the process that scores failed: {error}") from error
        if not line:
            raise LaterError(f"the process that scores ended with exit code {await process.wait()}")
        return line

    async def _start(self) -> Process:
        environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        environment |= {
            # The same modules as this process finds, from wherever it is started.
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            # One core, as the network: threads that wait for each other take memory and time.
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "scorer", "replay", *self._arguments]
        try:
            return await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, env=environment, limit=_MOST_BYTES
            )
        except OSError as error:
            raise LaterError(f"the process that scores cannot be started: {error}") from error

    def _kill(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
