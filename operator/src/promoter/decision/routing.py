"""The route for a state: larger weights are announced ahead of time, smaller ones take effect at once."""

from __future__ import annotations

from typing import Any

from promoter.api.resource import canary_name
from promoter.api.route import LEAD_SECONDS, CanaryRoute, Route, StableRoute
from promoter.api.spec import Spec
from promoter.api.status import Phase, RouteState, State
from promoter.decision.plan import plan


def wanted_route(spec: Spec, state: State, now: float, *, increase_unseen: bool = False) -> RouteState:
    """Return the route for a state; its generation increases whenever anything else in it changes.

    With `increase_unseen` the last increase of the weight is announced again: pods that received it after it took
    effect would do so one after the other, and send applicants back to the champion.

    Generations are at least the seconds since 1970: pods may still apply the route of a deleted ModelPromotion, which
    must not be mistaken for this one.
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
    wanted = wanted.model_copy(update=_increase(old, wanted, now, unseen=increase_unseen))
    if wanted == old:
        return old
    return wanted.model_copy(update={"generation": max(old.generation + 1, int(now))})


def _increase(old: RouteState, wanted: RouteState, now: float, *, unseen: bool) -> dict[str, Any]:
    """Return from which weight and when the weight increases; nothing if it takes effect at once."""
    before = old.weight if (old.canary_version, old.mode) == (wanted.canary_version, "live") else 0
    if wanted.mode == "shadow" or not wanted.weight or wanted.weight < before:
        return {}
    if wanted.weight == before and not unseen:
        return {"previous_weight": old.previous_weight, "effective_at": old.effective_at}
    in_force = old.in_force(now) and not unseen
    return {
        "previous_weight": before if in_force else old.previous_weight,
        "effective_at": round(now + LEAD_SECONDS, 3),
    }


def route_document(spec: Spec, route: RouteState) -> Route:
    """Return the document that the stable pods read."""
    canary = None
    if route.canary_version:
        canary = CanaryRoute(
            version=route.canary_version,
            url=f"http://{canary_name(spec.target_ref.name)}:8000",
            weight=route.weight,
            previous_weight=route.previous_weight,
            effective_at=route.effective_at or 0.0,
            mode=route.mode,
            deadline_milliseconds=spec.canary.deadline_milliseconds,
        )
    stable = StableRoute(version=route.stable_version) if route.stable_version else None
    return Route(generation=route.generation, salt=spec.model.name, stable=stable, canary=canary)
