"""Training runs: what is reported of them, and that a registry without an answer changes nothing."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from promoter.errors import RetryableError
from promoter.ports import RunStatus
from promoter.telemetry import Telemetry
from promoter.training_runs import TrainingRuns

NONE: dict[RunStatus, float] = {"finished": 0.0, "failed": 0.0, "refused": 0.0, "running": 0.0}


class Tracked:
    """Answers in turn; after the last answer, the watch is over."""

    def __init__(self, *answers: dict[RunStatus, float] | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def last_runs(self, model: str) -> dict[RunStatus, float]:
        self.asked.append(model)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, _: float) -> None:
        if not self._answers:
            raise asyncio.CancelledError


@pytest.mark.parametrize("fault", [None, RetryableError("no answer")])
async def test_the_last_answer_stays_while_the_registry_does_not_answer(fault: Exception | None) -> None:
    telemetry = Telemetry()
    answers: list[dict[RunStatus, float] | Exception] = [
        NONE | {"finished": 50.0, "refused": 100.0},
        *([fault] if fault else []),
    ]
    tracked = Tracked(*answers)
    with contextlib.suppress(asyncio.CancelledError):
        await TrainingRuns(tracked, lambda: ["credit-risk"], telemetry, tracked.sleep).run(60)
    assert tracked.asked == ["credit-risk"] * len(answers)

    def reported(status: RunStatus) -> float | None:
        labels = {"model": "credit-risk", "status": status}
        return telemetry.registry.get_sample_value("promoter_training_run_timestamp_seconds", labels)

    assert [reported(status) for status in NONE] == [50.0, 0.0, 100.0, 0.0]
