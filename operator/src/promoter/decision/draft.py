"""The state while it is being decided: small steps that the phases are written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from promoter.api.durations import seconds
from promoter.api.route import CanaryRoute, Route, StableRoute, canary_name
from promoter.api.spec import Spec, Step
from promoter.decision.observation import Action, Observation
from promoter.decision.state import Event, FailedVersion, HistoryEntry, Phase, RouteState, State, Window

HISTORY, FAILED_KEPT, STABLE_KEPT, EVENTS_KEPT = 10, 20, 10, 20
# How long every stable pod gets to learn of a larger weight before it holds. Kubelets that are nudged take 0.2 s, and a
# few seconds on a crowded node.
ROUTE_LEAD_SECONDS = 5.0


@dataclass
class Draft:
    """One decision in the making: what was asked and seen, the state so far, the actions so far."""

    spec: Spec
    state: State
    seen: Observation
    now: float
    actions: list[Action] = field(default_factory=list)

    def set(self, **changes: Any) -> None:  # noqa: ANN401 - the state's own fields
        """Change fields of the state."""
        self.state = self.state.model_copy(update=changes)

    def say(self, message: str) -> None:
        """Say what the promotion waits for, or why it stands."""
        self.set(message=message)

    def enter(self, phase: Phase, message: str, **changes: Any) -> None:  # noqa: ANN401
        """Go to a phase."""
        self.set(phase=phase, message=message, phase_started_at=self.now, **changes)

    def tell(self, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal") -> None:
        """Tell people by an Event; it stays in the state until it is recorded."""
        event = Event(reason=reason, message=message, type=kind, at=self.now)
        self.set(pending_events=(*self.state.pending_events, event)[-EVENTS_KEPT:])

    @property
    def waited(self) -> float:
        """Return the seconds since the phase or step was entered."""
        return self.now - self.state.phase_started_at

    @property
    def overdue(self) -> bool:
        """Return whether the phase's or step's deadline has passed."""
        return self.waited > self.spec.progress_deadline_seconds

    @property
    def canary_ready(self) -> bool:
        """Return whether at least one pod of the very version that is tried can answer."""
        canary = self.seen.canary
        return canary.version == self.state.canary_version and canary.ready > 0

    def route_lag(self) -> list[str]:
        """Return the stable pods in which the wanted route does not hold yet, with the reason."""
        generation = self.state.route.generation
        early = [] if self.state.route.in_force(self.now) else ["all stable pods, where it is about to hold"]
        return early + [
            f"{pod.pod} ({pod.error or f'has generation {pod.generation}, not {generation}'})"
            for pod in self.seen.pods
            if pod.error or pod.generation != generation
        ]

    @property
    def unheard(self) -> bool:
        """Return whether a larger weight is about to hold, or should already, and no stable pod has heard of it.

        So it is after the operator was killed between deciding it and telling the pods.
        """
        route = self.state.route
        heard = any(pod.error or pod.generation == route.generation for pod in self.seen.pods)
        short = self.now > route.raised_at - ROUTE_LEAD_SECONDS / 2
        return self.state.verified_weight < route.weight and short and not heard

    def begin(self, version: str) -> None:
        """Start a rollout of a version."""
        fresh: dict[str, Any] = {
            "canary_version": version, "step_index": 0, "weight": 0, "step_started_at": None, "failures": 0,
            "errors": 0, "held": False, "analysis": None, "window": Window(), "reason": "", "step": "",
        }  # fmt: skip
        known = self.state.stable_history[: self.spec.rollback_window]
        if self.state.stable_version is None:
            self.tell("Promoting", f"version {version} is the first one: straight in")
            self.enter(Phase.PROMOTING, f"first version {version} goes straight in", **fresh)
        elif version in known:
            self.tell("Promoting", f"version {version} was stable lately: straight in")
            self.enter(Phase.PROMOTING, f"version {version}, stable lately, goes straight in", **fresh)
        else:
            self.tell("RolloutStarted", f"version {version} against the champion {self.state.stable_version}")
            self.enter(Phase.STARTING, f"starting the canary of version {version}", **fresh)

    def stop(self, reason: str, message: str) -> None:
        """End a rollout quietly: nothing is wrong with its version."""
        self._record("Stopped", reason)
        self.tell(reason, message)
        self.enter(Phase.STOPPING, message, weight=0, reason=reason)

    def roll_back(self, reason: str, message: str) -> None:
        """End a rollout because its version is worse, and remember that."""
        version = self.state.canary_version or ""
        failed = FailedVersion(version=version, reason=reason, message=message, at=self.now)
        others = tuple(entry for entry in self.state.failed_versions if entry.version != version)
        self._record("RolledBack", reason)
        self._tag(version, "rolled-back", f"{reason}: {message}")
        self.tell(reason, f"version {version} is rolled back: {message}", "Warning")
        self.enter(
            Phase.ROLLING_BACK, message, weight=0, reason=reason, failed_versions=(failed, *others)[:FAILED_KEPT]
        )

    def finish(self) -> None:
        """Take the promoted version as the stable one."""
        version, old = self.state.canary_version or "", self.state.stable_version
        former = tuple(v for v in (old, *self.state.stable_history) if v and v != version)[:STABLE_KEPT]
        self._record("Promoted", "Promoted")
        self._tag(version, "promoted", f"promoted after {old}" if old else "promoted as the first version")
        self.tell("Promoted", f"version {version} is stable" + (f", after {old}" if old else ""))
        failed = tuple(entry for entry in self.state.failed_versions if entry.version != version)
        self.enter(Phase.FINISHING, f"version {version} is stable; the canary goes", weight=0, stable_version=version,
                   stable_history=former, failed_versions=failed, step="")  # fmt: skip

    def _record(self, outcome: Literal["Promoted", "RolledBack", "Stopped"], reason: str) -> None:
        entry = HistoryEntry(version=self.state.canary_version or "", outcome=outcome, reason=reason, at=self.now)
        self.set(history=(entry, *self.state.history)[:HISTORY])

    def _tag(self, version: str, outcome: str, reason: str) -> None:
        tags = {"creditrisk.io.rollout": outcome, "creditrisk.io.rollout-reason": reason[:1000]}
        self.set(pending_tags={**self.state.pending_tags, version: tags})


@dataclass(frozen=True)
class PlannedStep:
    """One step as it is walked: the shadow is the first of them where there is one."""

    mode: Literal["live", "shadow", "pause"]
    weight: int
    seconds: float | None


def plan(spec: Spec) -> list[PlannedStep]:
    """Return a spec's steps in turn; a pause keeps the weight of the step before it."""
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


def wanted_route(spec: Spec, state: State, now: float, *, unheard: bool = False) -> RouteState:
    """Return the route that fits a state; its generation moves on when anything else of it does.

    The last route's larger weight, if `unheard`, is announced anew: pods that learned of it when it holds already would
    do so one after the other, and send people back.

    Generations are seconds since 1970 where those are larger: pods may still hold the route of a ModelPromotion that is
    gone, and must not be taken for having this one.
    """
    steps, live = plan(spec), state.phase in {Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING}
    weight = state.weight if live else 0
    shadow = weight > 0 and state.step_index < len(steps) and steps[state.step_index].mode == "shadow"
    old = state.route
    wanted = RouteState(
        generation=old.generation,
        stable_version=state.stable_version,
        canary_version=state.canary_version if weight else None,
        weight=weight,
        mode="shadow" if shadow and state.phase != Phase.PROMOTING else "live",
    )
    wanted = wanted.model_copy(update=_raise(old, wanted, now, unheard=unheard))
    if wanted == old:
        return old
    return wanted.model_copy(update={"generation": max(old.generation + 1, int(now))})


def _raise(old: RouteState, wanted: RouteState, now: float, *, unheard: bool) -> dict[str, float]:
    """Return from where and when the weight grows; one that falls, falls at once."""
    before = old.weight if (old.canary_version, old.mode) == (wanted.canary_version, "live") else 0
    if wanted.mode == "shadow" or not wanted.weight or wanted.weight < before:
        return {}
    if wanted.weight == before and not unheard:
        return {"raised_from": old.raised_from, "raised_at": old.raised_at}
    holds = old.in_force(now) and not unheard
    return {"raised_from": before if holds else old.raised_from, "raised_at": now + ROUTE_LEAD_SECONDS}


def route_document(spec: Spec, route: RouteState) -> Route:
    """Return the document that the stable pods read."""
    canary = None
    if route.canary_version:
        canary = CanaryRoute(
            version=route.canary_version,
            url=f"http://{canary_name(spec.target_ref.name)}:8000",
            weight=route.weight,
            raised_from=route.raised_from,
            raised_at=route.raised_at,
            mode=route.mode,
            deadline_milliseconds=spec.canary.deadline_milliseconds,
        )
    stable = StableRoute(version=route.stable_version) if route.stable_version else None
    return Route(generation=route.generation, salt=spec.model.name, stable=stable, canary=canary)
