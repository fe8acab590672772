"""Store a decision in the status, and carry out its actions."""

from __future__ import annotations

import dataclasses
import logging

from promoter.api.spec import Spec
from promoter.api.status import RESTING, Event, State
from promoter.decision.actions import (
    Action,
    ApplyCanary,
    ApplyRoute,
    ClearAction,
    DeleteCanary,
    SetStableVersion,
    TagVersion,
)
from promoter.decision.observation import Observation
from promoter.errors import PermanentError, RetryableError
from promoter.ports import Snapshot
from promoter.promotion import Adapters, Promotion

log = logging.getLogger(__name__)


async def save(adapters: Adapters, promotion: Promotion, state: State) -> None:
    """Store a state, before its actions are carried out: a killed operator repeats actions and forgets none."""
    if state == promotion.state and not promotion.rewrite_status:
        return
    await adapters.cluster.save_status(promotion.owner, state.to_document())
    adapters.telemetry.record_change(promotion.owner, promotion.state, state)
    promotion.state, promotion.rewrite_status = state, False


async def act(
    adapters: Adapters, promotion: Promotion, spec: Spec, snapshot: Snapshot, actions: tuple[Action, ...]
) -> None:
    """Carry out the actions of the stored state, the route first."""
    routes = [action.route for action in actions if isinstance(action, ApplyRoute)]
    for route in routes:
        await adapters.cluster.apply_route(promotion.owner, spec.target_ref.name, route)
    if routes or promotion.state.phase not in RESTING:
        # At once: until the pods apply a weight that decreased, clients are still sent to the canary.
        await adapters.cluster.nudge(promotion.owner, snapshot.stable_pods, promotion.state.route.generation)
    await record_events(adapters, promotion)
    for action in actions:
        if not isinstance(action, ApplyRoute):
            await _perform(adapters, promotion, spec, snapshot, action)


async def record_events(adapters: Adapters, promotion: Promotion) -> None:
    """Record the pending Events; those the API server does not take now stay pending in the status."""
    pending, owner = [], promotion.owner
    for event in promotion.state.pending_events:
        log.info("%s: %s: %s", owner, event.reason, event.message)
        try:
            await adapters.cluster.record_event(owner, event)
        except RetryableError as error:
            log.warning("%s: Event %s stays pending: %s", owner, event.reason, error)
            pending.append(event)
        except PermanentError as error:
            log.warning("%s: Event %s could not be recorded: %s", owner, event.reason, error)
    await save(adapters, promotion, promotion.state.model_copy(update={"pending_events": tuple(pending)}))


def with_outdated_pods(snapshot: Snapshot, observed: Observation, generation: int) -> Snapshot:
    """Mark the pods that report another route than the wanted one, so that they are nudged again.

    A kubelet that is nudged before it has received the new route syncs the old one.
    """
    late = {reading.pod for reading in observed.pods if reading.generation != generation}
    pods = (dataclasses.replace(p, route_generation=None) if p.name in late else p for p in snapshot.stable_pods)
    return dataclasses.replace(snapshot, stable_pods=tuple(pods))


async def _perform(adapters: Adapters, promotion: Promotion, spec: Spec, snapshot: Snapshot, action: Action) -> None:
    cluster, owner, target = adapters.cluster, promotion.owner, spec.target_ref.name
    match action:
        case ApplyCanary(version, replicas):
            await cluster.apply_canary(owner, snapshot.deployment, version, replicas)
        case DeleteCanary():
            await cluster.delete_canary(owner, target)
        case SetStableVersion(version):
            await cluster.set_stable_version(owner, target, version)
        case ClearAction(value):
            await cluster.clear_action(owner, value)
        case TagVersion(version, tags):
            await _tag(adapters, promotion, spec, version, dict(tags))


async def _tag(adapters: Adapters, promotion: Promotion, spec: Spec, version: str, tags: dict[str, str]) -> None:
    """Write tags; those the registry does not take now stay pending in the status."""
    refused: tuple[Event, ...] = ()
    try:
        await adapters.registry.tag(spec.model.name, version, tags)
    except RetryableError as error:
        log.warning("%s: tags of version %s stay pending: %s", promotion.owner, version, error)
        return
    except PermanentError as error:
        message = f"version {version} could not be tagged with the outcome: {error}"
        refused = (Event(reason="TagRefused", message=message, type="Warning", at=adapters.now()),)
    state = promotion.state
    pending = {key: value for key, value in state.pending_tags.items() if key != version}
    changes = {"pending_tags": pending, "pending_events": (*state.pending_events, *refused)}
    await save(adapters, promotion, state.model_copy(update=changes))
