"""The steps of a rollout as they are executed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from promoter.api.durations import seconds
from promoter.api.resource import Approvals
from promoter.api.spec import DEFAULT_SHADOW, EQUIVALENCE, Auto, BlueGreen, Experiment, Shadow, Spec, Step, Strategy

# With the default limit of a decision shift, 5 % are safe without any evidence.
_WEIGHTS = (5, 10, 25, 50)
# In percent of the applicants.
EVERYONE = 100


@dataclass(frozen=True)
class PlannedStep:
    """One step: mode, weight in percent, and duration in seconds (None: until resumed).

    `margin`: below how many times the limits the upper bounds must be for the step to pass.
    `approvals`: what a pause waits for, instead of for being resumed.
    """

    mode: Literal["live", "shadow", "pause"]
    weight: int
    seconds: float | None
    margin: float = EQUIVALENCE
    approvals: Approvals | None = None


def plan(spec: Spec) -> list[PlannedStep]:
    """Return the steps in order: the shadow phase first if there is one; a pause keeps the weight before it."""
    shadow = shadow_of(spec)
    before = [PlannedStep("shadow", shadow.percent, seconds(shadow.duration))] if shadow else []
    if spec.strategy == Strategy.BLUE_GREEN:
        return [*before, PlannedStep("live", EVERYONE, seconds((spec.blue_green or BlueGreen()).observe))]
    if spec.strategy == Strategy.EXPERIMENT:
        experiment = spec.experiment or Experiment()
        return [*before, PlannedStep("live", experiment.weight, seconds(experiment.duration))]
    return before + (_growing(spec.auto) if spec.auto else _listed(spec.steps))


def step_at(spec: Spec, index: int) -> PlannedStep:
    """Return a step; the last one if the spec has fewer by now."""
    return plan(spec)[min(index, len(plan(spec)) - 1)]


def shadow_of(spec: Spec) -> Shadow | None:
    """Return the shadow phase.

    A switch of all applicants at once always has one: what the version decides is judged before it answers anybody, its
    pods get the load that they will have, and after the switch the champion has no answers left to compare with.
    """
    return spec.shadow or (DEFAULT_SHADOW if spec.strategy == Strategy.BLUE_GREEN else None)


def _listed(listed: Iterable[Step]) -> list[PlannedStep]:
    steps, weight = [], 0
    for step in listed:
        weight = step.weight or weight
        steps.append(_planned(step, weight))
    return steps


def _growing(auto: Auto) -> list[PlannedStep]:
    """Return weights that each follow once even the worst that the evidence leaves possible is within the limits.

    At a weight of w % and a decision shift of at most s, at most w / 100 * s of all applicants are decided otherwise.
    The next weight is entered once that is below the limit: once s is below 100 / w times it. At 50 % that is twice the
    limit, as for every other step.
    """
    weights = [weight for weight in _WEIGHTS if weight < auto.max_weight] + [auto.max_weight]
    margins = [max(EQUIVALENCE, 100 / following) for following in weights[1:]] + [EQUIVALENCE]
    length = seconds(auto.min_duration) / len(weights)
    return [PlannedStep("live", weight, length, margin) for weight, margin in zip(weights, margins, strict=True)]


def _planned(step: Step, weight: int) -> PlannedStep:
    if step.pause is not None:
        length = seconds(step.pause.duration) if step.pause.duration else None
        return PlannedStep("pause", weight, length, approvals=step.pause.approvals)
    return PlannedStep("live", weight, seconds(step.duration or "0s"))
