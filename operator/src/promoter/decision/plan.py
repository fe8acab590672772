"""The steps of a rollout as they are executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from promoter.api.durations import seconds
from promoter.api.spec import Spec, Step


@dataclass(frozen=True)
class PlannedStep:
    """One step: mode, weight in percent, and duration in seconds (None: until resumed)."""

    mode: Literal["live", "shadow", "pause"]
    weight: int
    seconds: float | None


def plan(spec: Spec) -> list[PlannedStep]:
    """Return the steps in order: the shadow phase first if there is one; a pause keeps the weight before it."""
    steps, weight = [], 0
    if spec.shadow:
        steps.append(PlannedStep("shadow", spec.shadow.percent, seconds(spec.shadow.duration)))
    for step in spec.steps:
        weight = step.weight or weight
        steps.append(_planned(step, weight))
    return steps


def _planned(step: Step, weight: int) -> PlannedStep:
    if step.pause is not None:
        return PlannedStep("pause", weight, seconds(step.pause.duration) if step.pause.duration else None)
    return PlannedStep("live", weight, seconds(step.duration or "0s"))
