"""Observe registry, cluster and pods for one turn."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

from promoter.api.spec import Spec
from promoter.api.status import RESTING, Phase, State
from promoter.decision.approvals import asked_now
from promoter.decision.compatibility import ContractError, describe, problems, read_contract
from promoter.decision.observation import ApprovalsView, CanaryView, Observation, TrainingView
from promoter.errors import PermanentError, RetryableError
from promoter.ports import Snapshot
from promoter.promotion import Adapters, Promotion

log = logging.getLogger(__name__)


async def observe(adapters: Adapters, promotion: Promotion, spec: Spec) -> tuple[Snapshot, Observation]:
    """Return what is there now; pods are read only during a rollout, or while some are unavailable.

    Raises:
        RetryableError: the API server did not answer.
        PermanentError: it refused, or the objects found cannot be worked with.
    """
    state, target = promotion.state, spec.target_ref.name
    # Listing pods is expensive: not for a promotion at rest whose pods are all available.
    with_pods = state.phase not in RESTING or state.capacity_low_since is not None
    registry = await adapters.poller.view(spec.model, state.stable_version)
    snapshot = await adapters.cluster.snapshot(promotion.owner, target, with_pods=with_pods)
    ready = [pod for pod in snapshot.stable_pods if pod.ready]
    readings = await asyncio.gather(*(
        adapters.metrics.read(pod, state.stable_version, state.canary_version) for pod in ready
    ))  # fmt: skip
    return snapshot, Observation(
        registry=registry,
        stable=snapshot.stable,
        canary=await _canary(adapters, state, snapshot),
        route=snapshot.route,
        pods=tuple(readings),
        action=promotion.action,
        artifacts=snapshot.artifacts,
        artifacts_error=snapshot.artifacts_error,
        approvals=await _approvals(adapters, promotion, spec),
        training=await _training(adapters, promotion),
        drift=adapters.drift.view(spec.model.name) if adapters.drift else None,
        autoscalers=snapshot.autoscalers,
        autoscalers_error=snapshot.autoscalers_error,
    )


async def _approvals(adapters: Adapters, promotion: Promotion, spec: Spec) -> ApprovalsView:
    """Return the approvals of the version that waits for some, and who trained it; that is asked until it is known."""
    state, version = promotion.state, promotion.state.canary_version or ""
    if adapters.approvals is None or asked_now(spec, state) is None:
        return ApprovalsView()
    try:
        found = await adapters.approvals.approvals(promotion.owner, version)
        known = state.approvals.trained_by if state.approvals else None
        trained_by = await adapters.registry.trained_by(spec.model.name, version) if known is None else known
    except (RetryableError, PermanentError) as error:
        # The canary is watched nevertheless.
        return ApprovalsView(error=str(error))
    return ApprovalsView(found, trained_by)


async def _training(adapters: Adapters, promotion: Promotion) -> TrainingView | None:
    """Return what became of the training that runs; None if the operator may not start any."""
    if adapters.trainings is None:
        return None
    current = promotion.state.retraining.running if promotion.state.retraining else None
    if current is None:
        return TrainingView()
    try:
        return await adapters.trainings.find(promotion.owner, current.job)
    except (RetryableError, PermanentError) as error:
        # Rollouts go on nevertheless.
        log.warning("%s: Job %s: %s", promotion.owner, current.job, error)
        return TrainingView()


async def _canary(adapters: Adapters, state: State, snapshot: Snapshot) -> CanaryView:
    """Add what the canary's pods report to what the cluster knows about them."""
    view = snapshot.canary
    if state.phase not in {Phase.STARTING, Phase.PROGRESSING, Phase.PAUSED} or view.failure:
        return view
    unready = [pod for pod in snapshot.canary_pods if not pod.ready and pod.address]
    answers = await asyncio.gather(*(adapters.metrics.readiness(pod) for pod in unready))
    reports = [(f"pod {pod.name}: {found.detail}", found) for pod, found in zip(unready, answers, strict=True)]
    if failure := next((text for text, found in reports if found.permanent), ""):
        return dataclasses.replace(view, failure=failure)
    if details := [text for text, found in reports if found.detail]:
        view = dataclasses.replace(view, waiting="; ".join(details))
    if state.phase == Phase.STARTING and view.ready:
        return await _compatible(adapters, view, snapshot)
    return view


async def _compatible(adapters: Adapters, view: CanaryView, snapshot: Snapshot) -> CanaryView:
    """Treat a canary as ready only once its contract is known to be compatible with the champion's."""
    champion = next((pod for pod in snapshot.stable_pods if pod.ready), None)
    canary = next((pod for pod in snapshot.canary_pods if pod.ready), None)
    if champion is None or canary is None:
        return dataclasses.replace(view, ready=0, waiting="no stable pod is ready to compare contracts with")
    ours, theirs = await asyncio.gather(adapters.metrics.contract(champion), adapters.metrics.contract(canary))
    if not ours or not theirs:
        return dataclasses.replace(view, ready=0, waiting="the contracts could not be read from /v1/model")
    try:
        expected = read_contract(ours)
    except ContractError as error:
        waiting = f"the champion's /v1/model does not return a contract to compare with: {error}"
        return dataclasses.replace(view, ready=0, waiting=waiting)
    try:
        found = problems(expected, read_contract(theirs))
    except ContractError as error:
        return dataclasses.replace(view, failure=f"invalid contract: the canary's /v1/model: {error}")
    return dataclasses.replace(view, failure=f"incompatible contract: {describe(found)}") if found else view
