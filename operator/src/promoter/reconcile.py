"""One turn of one promotion: look, decide, remember, act."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from string import Template
from typing import Any

from promoter.adapters.kubernetes import ACTION_ANNOTATION
from promoter.api.spec import InvalidSpecError, MetricType, Spec, parse_spec
from promoter.decision.compatibility import ContractError, misfit, read_contract
from promoter.decision.conditions import blocked, troubled
from promoter.decision.decide import Decision, decide
from promoter.decision.observation import (
    Action,
    ApplyCanary,
    ApplyRoute,
    CanaryView,
    ClearAction,
    DeleteCanary,
    Observation,
    SetStableVersion,
    TagVersion,
)
from promoter.decision.schedule import due
from promoter.decision.state import RESTING, Event, Phase, State
from promoter.errors import PermanentError, RetryableError
from promoter.poll import Poller
from promoter.ports import Cluster, Metrics, Owner, Registry, Snapshot
from promoter.telemetry import Telemetry

log = logging.getLogger(__name__)
Document = dict[str, Any]
# What a pod says when its version's files cannot ever be served.
_CERTAIN = ("not ready: ArtifactRejected", "not ready: Model")
# From so many failed turns in a row on, people are told.
_FAULTS_TOLD = 2


@dataclass
class Subject:
    """A ModelPromotion as last seen, and its state as last decided."""

    owner: Owner
    document: Document
    state: State
    # What the cluster said no to in the last turn.
    refusal: str = ""
    # Turns in a row in which something did not answer.
    faults: int = 0

    @property
    def generation(self) -> int:
        """Return the spec's generation."""
        return int(self.document["metadata"].get("generation", 0))

    @property
    def action(self) -> str:
        """Return the action that somebody asks for by hand."""
        return str((self.document["metadata"].get("annotations") or {}).get(ACTION_ANNOTATION, ""))


@dataclass(frozen=True)
class World:
    """The adapters."""

    cluster: Cluster
    registry: Registry
    metrics: Metrics
    poller: Poller
    telemetry: Telemetry
    clock: Callable[[], float]


async def reconcile(world: World, subject: Subject) -> None:
    """Do one turn; afterwards the subject's state is what the cluster's status says.

    Raises:
        RetryableError: something did not answer; what was not done is done in a later turn.
    """
    now = world.clock()
    try:
        spec = parse_spec(subject.document.get("spec"), subject.state.target)
    except InvalidSpecError as error:
        await _save(world, subject, blocked(subject.state, "InvalidSpec", str(error), subject.generation, now))
        return
    try:
        snapshot, seen = await observe(world, subject, spec, now)
    except PermanentError as error:
        log.warning("%s/%s: %s", subject.owner.namespace, subject.owner.name, error)
        await _save(world, subject, blocked(subject.state, "Blocked", str(error), subject.generation, now))
        return
    decision = decide(spec, subject.generation, subject.state, seen, now)
    # What was refused before will most likely be again: so the status does not change to and fro.
    state = decision.state
    if subject.refusal:
        state = troubled(state, subject.state, "Refused", subject.refusal, now)
    await _save(world, subject, state)
    try:
        await _act(world, subject, spec, _behind(snapshot, seen, decision), decision)
    except PermanentError as error:
        log.warning("%s/%s: %s", subject.owner.namespace, subject.owner.name, error)
        subject.refusal = str(error)
        await _save(world, subject, troubled(subject.state, subject.state, "Refused", subject.refusal, now))
    else:
        subject.refusal = ""


async def tell_fault(world: World, subject: Subject, error: Exception) -> None:
    """Say in the status that turns fail and are tried again, unless it is the first of them: one is nobody's business.

    Where the API server itself is what fails, there is nobody to tell.
    """
    subject.faults += 1
    if subject.faults < _FAULTS_TOLD:
        return
    state = troubled(subject.state, subject.state, "Retrying", str(error), world.clock())
    with contextlib.suppress(RetryableError, PermanentError):
        await _save(world, subject, state)


async def observe(world: World, subject: Subject, spec: Spec, now: float) -> tuple[Snapshot, Observation]:
    """Look at registry, cluster and pods; at the pods only while a rollout is on its way."""
    state, target = subject.state, spec.target_ref.name
    registry = await world.poller.view(spec.model)
    snapshot = await world.cluster.snapshot(subject.owner, target, with_pods=state.phase not in RESTING)
    ready = [pod for pod in snapshot.stable_pods if pod.ready]
    readings = await asyncio.gather(*(
        world.metrics.read(pod, state.stable_version, state.canary_version) for pod in ready
    ))  # fmt: skip
    return snapshot, Observation(
        registry=registry,
        stable=snapshot.stable,
        canary=await _canary(world, state, snapshot),
        route=snapshot.route,
        pods=tuple(readings),
        queries=await _queries(world, subject, spec, now),
        action=subject.action,
    )


async def _canary(world: World, state: State, snapshot: Snapshot) -> CanaryView:
    """Add to what the cluster knows of the canary what its pods say themselves."""
    view = snapshot.canary
    if state.phase not in {Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED} or view.failure:
        return view
    silent = [pod for pod in snapshot.canary_pods if not pod.ready and pod.address]
    reasons = [f"pod {pod.name}: {reason}" for pod in silent if (reason := await world.metrics.not_ready_reason(pod))]
    if certain := next((reason for reason in reasons if any(sign in reason for sign in _CERTAIN)), ""):
        return dataclasses.replace(view, failure=certain)
    if reasons:
        view = dataclasses.replace(view, waiting="; ".join(reasons))
    if state.phase == Phase.STARTING and view.ready:
        return await _fitting(world, view, snapshot)
    return view


async def _fitting(world: World, view: CanaryView, snapshot: Snapshot) -> CanaryView:
    """Take a canary for ready only once its contract is known to fit the champion's clients."""
    champion = next((pod for pod in snapshot.stable_pods if pod.ready), None)
    canary = next((pod for pod in snapshot.canary_pods if pod.ready), None)
    if champion is None or canary is None:
        return dataclasses.replace(view, ready=0, waiting="no stable pod is ready to compare contracts with")
    ours, theirs = await asyncio.gather(world.metrics.contract(champion), world.metrics.contract(canary))
    if not ours or not theirs:
        return dataclasses.replace(view, ready=0, waiting="the contracts could not be read from /v1/model")
    try:
        expected = read_contract(ours)
    except ContractError as error:
        waiting = f"the champion's /v1/model says nothing to compare the canary's with: {error}"
        return dataclasses.replace(view, ready=0, waiting=waiting)
    try:
        fault = misfit(expected, read_contract(theirs))
    except ContractError as error:
        fault = f"the canary's /v1/model does not say what it takes: {error}"
    return dataclasses.replace(view, failure=f"wrong contract: {fault}") if fault else view


async def _queries(world: World, subject: Subject, spec: Spec, now: float) -> dict[str, float | str]:
    state = subject.state
    asked = [metric for metric in spec.metrics if metric.type == MetricType.QUERY and metric.query]
    if not asked or state.step_started_at is None or not due(spec, state, now):
        return {}
    window = max(1, int(now - state.step_started_at))
    known = {
        "namespace": subject.owner.namespace, "target": spec.target_ref.name, "stable": state.stable_version or "",
        "canary": state.canary_version or "", "window": f"{window}s",
    }  # fmt: skip
    url = spec.analysis.prometheus_url or ""
    answers = await asyncio.gather(*(
        world.metrics.query(url, Template(metric.query or "").safe_substitute(known)) for metric in asked
    ))  # fmt: skip
    return {metric.title: answer for metric, answer in zip(asked, answers, strict=True)}


async def _save(world: World, subject: Subject, state: State) -> None:
    """Remember first, act then: a killed operator repeats actions, and never forgets one."""
    if state == subject.state:
        return
    await world.cluster.save_status(subject.owner, state.model_dump(mode="json", by_alias=True, exclude_none=True))
    world.telemetry.moved(subject.owner, subject.state, state)
    subject.state = state


async def _act(world: World, subject: Subject, spec: Spec, snapshot: Snapshot, decision: Decision) -> None:
    routes = [action.route for action in decision.actions if isinstance(action, ApplyRoute)]
    for route in routes:
        await world.cluster.apply_route(subject.owner, spec.target_ref.name, route)
    if routes or decision.state.phase not in RESTING:
        # At once: until the pods see a weight that fell, clients are still sent to the canary.
        await world.cluster.nudge(subject.owner, snapshot.stable_pods, decision.state.route.generation)
    await _emit(world, subject)
    for action in decision.actions:
        if not isinstance(action, ApplyRoute):
            await _do(world, subject, spec, snapshot, action)


async def _emit(world: World, subject: Subject) -> None:
    """Record what people are to be told; what the cluster does not take now stays pending in the status."""
    pending, owner = [], subject.owner
    for event in subject.state.pending_events:
        log.info("%s/%s: %s: %s", owner.namespace, owner.name, event.reason, event.message)
        try:
            await world.cluster.emit(owner, event)
        except RetryableError as error:
            log.warning("the Event %s stays pending: %s", event.reason, error)
            pending.append(event)
        except PermanentError as error:
            log.warning("the Event %s is not recorded: %s", event.reason, error)
    await _save(world, subject, subject.state.model_copy(update={"pending_events": tuple(pending)}))


def _behind(snapshot: Snapshot, seen: Observation, decision: Decision) -> Snapshot:
    """Let pods that report another route than the wanted one be nudged, though they were before.

    A kubelet that is nudged before it has heard of the new route syncs the old one.
    """
    late = {reading.pod for reading in seen.pods if reading.generation != decision.state.route.generation}
    pods = (dataclasses.replace(p, route_generation=None) if p.name in late else p for p in snapshot.stable_pods)
    return dataclasses.replace(snapshot, stable_pods=tuple(pods))


async def _do(world: World, subject: Subject, spec: Spec, snapshot: Snapshot, action: Action) -> None:
    cluster, owner, target = world.cluster, subject.owner, spec.target_ref.name
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
            await _tag(world, subject, spec, version, dict(tags))


async def _tag(world: World, subject: Subject, spec: Spec, version: str, tags: dict[str, str]) -> None:
    """Write tags; what the registry does not take now stays pending in the status."""
    told: tuple[Event, ...] = ()
    try:
        await world.registry.tag(spec.model.name, version, tags)
    except RetryableError as error:
        log.warning("tags of version %s stay pending: %s", version, error)
        return
    except PermanentError as error:
        message = f"version {version} is not tagged with the outcome: {error}"
        told = (Event(reason="TagRefused", message=message, type="Warning", at=world.clock()),)
    pending = {key: value for key, value in subject.state.pending_tags.items() if key != version}
    events = (*subject.state.pending_events, *told)
    await _save(world, subject, subject.state.model_copy(update={"pending_tags": pending, "pending_events": events}))
