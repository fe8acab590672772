"""Where a rollout is: its weight, and its steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from promoter.api.resource import Approvals
from promoter.api.spec import Spec
from promoter.api.status import RESTING, Phase, State
from promoter.decision.plan import PlannedStep, plan
from promoter.words.times import duration


@dataclass(frozen=True)
class ShownStep:
    """A step in words, and whether it is over; `number` counts from 1."""

    number: int
    text: str
    place: Literal["passed", "current", "ahead"]


def shown_steps(spec: Spec, state: State) -> Iterator[ShownStep]:
    """Yield the steps in order."""
    in_steps = state.phase in {Phase.PROGRESSING, Phase.PAUSED}
    passed = state.phase in {Phase.PROMOTING, Phase.FINISHING}
    for index, step in enumerate(plan(spec)):
        place: Literal["passed", "current", "ahead"] = "ahead"
        if in_steps and index == state.step_index:
            place = "current"
        elif passed or (in_steps and index < state.step_index):
            place = "passed"
        yield ShownStep(index + 1, step_text(step), place)


def step_text(step: PlannedStep) -> str:
    """Return a step in words."""
    length = "until resumed" if step.seconds is None else f"for {duration(step.seconds)}"
    if step.approvals:
        least = "" if step.seconds is None else f" {length} or longer,"
        return f"pause at {step.weight} %{least} {asked_text(step.approvals)}"
    if step.mode == "pause":
        return f"pause at {step.weight} % {length}"
    return f"{'shadow ' if step.mode == 'shadow' else ''}{step.weight} % {length}"


def asked_text(asked: Approvals) -> str:
    """Return what a pause waits for."""
    people = "1 member" if asked.needed == 1 else f"{asked.needed} members"
    return f"until {people} of {', '.join(asked.groups)} approve{'s' if asked.needed == 1 else ''}"


def weight_text(state: State) -> str:
    """Return how many applicants the canary answers, in words."""
    if state.route.mode == "shadow" and state.phase not in RESTING:
        return f"shadow: copies of {state.weight} % of the applicants' requests"
    verified = "" if state.verified_weight == state.weight else f" (every stable pod applies {state.verified_weight} %)"
    return f"{state.weight} % of the applicants are answered by the canary{verified}"


def live_share(state: State) -> int:
    """Return the percentage of applicants that the canary should answer; a shadow answers none."""
    return 0 if state.route.mode == "shadow" else state.weight
