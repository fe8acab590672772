"""Replays one decision at a time, so that the service's other requests keep their processor and memory."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from uuid import UUID

import msgspec

from decisions.replay.errors import ForgottenError, LaterError, MismatchError, UnavailableError
from decisions.replay.files import FileStore, places_of
from decisions.replay.result import Replay, compare, inputs_are_those_hashed
from decisions.replay.scoring import Question, Refused, Scorecard, ScoringProcess
from decisions.replay.stored import StoredDecision
from decisions.settings import ServeSettings

# Of the label in the scoring service's metrics.
_SINGLE = "score"


class ReplayEngine:
    """Gets the versions' files, and asks the scoring service's code."""

    def __init__(self, settings: ServeSettings) -> None:
        """Take where the files are, and how much memory and time a replay may take."""
        self._folder = tempfile.TemporaryDirectory(prefix="replay-")
        self._files = FileStore(tuple(places_of(settings)), Path(self._folder.name), settings.replay_versions,
                                settings.replay_model_mebibytes << 20)  # fmt: skip
        self._scoring = ScoringProcess(settings.replay_versions, settings.replay_memory_mebibytes,
                                       settings.replay_seconds)  # fmt: skip
        self._scorecard = Scorecard(settings.base_points, settings.base_odds, settings.pdo)
        self._most, self._admitted, self._turn = settings.replay_waiting + 1, 0, asyncio.Lock()

    async def replay(self, decision_id: UUID, stored: StoredDecision) -> Replay:
        """Score a decision's inputs again.

        Raises:
            ForgottenError: They were deleted on request.
            MismatchError: The version's files, or its row in the database, are not what the decision was made with.
            UnavailableError: The files cannot be had, or cannot score these inputs.
            LaterError: Too many replays wait, or something did not answer.
        """
        if stored.inputs is None:
            raise ForgottenError(f"the inputs of decision {decision_id} were deleted on request")
        if stored.version.id != stored.version_id:
            raise MismatchError(
                f"the database's row of version {stored.version.version} of model {stored.version.name} was changed: "
                f"{stored.version_id} is not the id of what it says"
            )
        if self._admitted >= self._most:
            raise LaterError(f"{self._admitted} replays are running or waiting already")
        self._admitted += 1
        try:
            async with self._turn:
                return await self._replay(decision_id, stored, stored.inputs.inputs)
        finally:
            self._admitted -= 1

    async def close(self) -> None:
        """End what runs beside the service, and delete the files."""
        await self._scoring.close()
        self._folder.cleanup()

    async def _replay(self, decision_id: UUID, stored: StoredDecision, inputs: str) -> Replay:
        files = await asyncio.to_thread(self._files.fetch, stored.version)
        # On one line: Postgres keeps a document as it was written.
        document = msgspec.json.format(inputs.encode(), indent=-1)
        answer = await self._scoring.ask(Question(
            str(files.folder), msgspec.Raw(document), stored.probability, stored.reasons,
            stored.endpoint == _SINGLE, self._scorecard,
        ))  # fmt: skip
        if isinstance(answer, Refused):
            changed = "" if inputs_are_those_hashed(stored) else (
                "; the inputs are not those that were hashed when the decision was made")  # fmt: skip
            raise UnavailableError(f"decision {decision_id} cannot be scored again: {answer.reason}{changed}")
        return compare(decision_id, stored, answer, files)
