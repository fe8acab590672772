"""Store a decision in the status, and carry out its actions."""

from __future__ import annotations

import contextlib
import dataclasses
import logging

from promoter.api.resource import ArtifactsReason
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import Spec
from promoter.api.status import RESTING, ArtifactCopy, Event, Phase, State
from promoter.decision.actions import (
    Action,
    ApplyCanary,
    ApplyRoute,
    ClearAction,
    DeleteArtifacts,
    DeleteCanary,
    DisableScaleIn,
    KeepArtifacts,
    RestoreScaleIn,
    SetStableVersion,
    StartTraining,
    TagVersion,
)
from promoter.decision.artifacts import with_problem
from promoter.decision.copies import recorded_copy
from promoter.decision.notifications import Subject, note_notifications
from promoter.decision.observation import Observation
from promoter.errors import ArtifactsError, PermanentError, RetryableError
from promoter.notifications.delivery import Notifier
from promoter.ports import Snapshot, VersionFiles
from promoter.promotion import Adapters, Promotion

log = logging.getLogger(__name__)


async def save(adapters: Adapters, promotion: Promotion, state: State) -> None:
    """Store a state, before its actions are carried out: a killed operator repeats actions and forgets none.

    What people are told about the change is stored with it, and delivered only then.
    """
    notifier = adapters.notifier
    if notifier:
        state = _with_notifications(notifier, promotion, state, adapters.now())
    if state != promotion.state or promotion.rewrite_status:
        await adapters.cluster.save_status(promotion.owner, state.to_document())
        adapters.telemetry.record_change(promotion.owner, promotion.state, state)
        promotion.state, promotion.rewrite_status = state, False
    if notifier:
        notifier.take(promotion.owner, state)


def _with_notifications(notifier: Notifier, promotion: Promotion, state: State, now: float) -> State:
    """Return a state that is about to be stored, with what people should be told, without what they were told."""
    owner, spec = promotion.owner, None
    if state.phase == Phase.PAUSED:
        with contextlib.suppress(InvalidSpecError):
            spec = parse_spec(promotion.document.get("spec"), state.target)
    subject = Subject(f"{owner}/{owner.uid}", promotion.model, spec)
    known = notifier.without_settled(owner, state, now)
    return note_notifications(promotion.state, known, subject, notifier.subscribers, now)


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
        case ApplyCanary():
            await cluster.apply_canary(owner, snapshot.deployment, action)
        case DeleteCanary():
            await cluster.delete_canary(owner, target)
        case SetStableVersion():
            await cluster.set_stable_version(owner, snapshot.deployment, action)
        case DisableScaleIn() | RestoreScaleIn():
            await _change_autoscaler(adapters, promotion, action)
        case KeepArtifacts(version):
            await _keep_artifacts(adapters, promotion, spec, version)
        case DeleteArtifacts(config_maps):
            await cluster.delete_artifacts(owner, config_maps)
        case ClearAction(value):
            await cluster.clear_action(owner, value)
        case StartTraining():
            await _start_training(adapters, promotion, action)
        case TagVersion(version, tags):
            await _tag(adapters, promotion, spec, version, dict(tags))


async def _change_autoscaler(adapters: Adapters, promotion: Promotion, action: DisableScaleIn | RestoreScaleIn) -> None:
    owner, name = promotion.owner, action.autoscaler
    if isinstance(action, DisableScaleIn):
        log.info("%s: HorizontalPodAutoscaler %s does not scale in during the rollout", owner, name)
        await adapters.cluster.disable_scale_in(owner, name, action.policy)
    else:
        log.info("%s: HorizontalPodAutoscaler %s may scale in again", owner, name)
        await adapters.cluster.restore_scale_in(owner.namespace, name, action.policy)


async def _start_training(adapters: Adapters, promotion: Promotion, action: StartTraining) -> None:
    """Create the Job; if the API server refuses, the status says why, and the next turn takes it for a failure.

    Raises:
        RetryableError: the API server did not answer.
    """
    known = promotion.state.retraining
    if adapters.trainings is None or known is None:
        return
    try:
        await adapters.trainings.start(promotion.owner, action)
    except PermanentError as error:
        log.warning("%s: Job %s cannot be created: %s", promotion.owner, action.job, error)
        trainings = tuple(
            training.model_copy(update={"start_error": str(error)}) if training.job == action.job else training
            for training in known.trainings
        )
        retraining = known.model_copy(update={"trainings": trainings})
        await save(adapters, promotion, promotion.state.model_copy(update={"retraining": retraining}))


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


async def _keep_artifacts(adapters: Adapters, promotion: Promotion, spec: Spec, version: str) -> None:
    # Otherwise in a later turn: waiting here would delay everything else of this promotion.
    if not adapters.copying.locked():
        async with adapters.copying:
            await _copy_artifacts(adapters, promotion, spec, version)


async def _copy_artifacts(adapters: Adapters, promotion: Promotion, spec: Spec, version: str) -> None:
    """Copy a version's files into the cluster; the status then says where they are, or why they are not.

    Raises:
        RetryableError: the API server did not answer.
    """
    owner, state = promotion.owner, promotion.state
    try:
        files = await adapters.registry.download(spec.model.name, version)
        _check_recorded(state, files)
    except RetryableError as error:
        await _report_artifacts_problem(adapters, promotion, version, "RegistryUnavailable", error)
        return
    except PermanentError as error:
        reason: ArtifactsReason = error.reason if isinstance(error, ArtifactsError) else "Refused"
        await _report_artifacts_problem(adapters, promotion, version, reason, error)
        return
    try:
        names = await adapters.cluster.keep_artifacts(owner, spec.target_ref.name, files)
    except PermanentError as error:
        await _report_artifacts_problem(adapters, promotion, version, "Refused", error)
        return
    others = tuple(copy for copy in state.artifacts if copy.version != version)
    copy = ArtifactCopy(version=version, digests=files.digests, config_maps=names)
    known = state.artifacts_problem
    problem = None if known and known.version == version else known
    await save(
        adapters, promotion, state.model_copy(update={"artifacts": (copy, *others), "artifacts_problem": problem})
    )
    log.info("%s: the files of version %s are kept in %s", owner, version, ", ".join(names))


def _check_recorded(state: State, files: VersionFiles) -> None:
    """Refuse files that differ from those that were copied before, though the registry's tags agree with them."""
    known = recorded_copy(state, files.version)
    recorded = known.digests if known else files.digests
    for name, digest in files.digests.items():
        if digest != recorded.get(name):
            raise ArtifactsError(
                "Rejected", f"{name} has SHA-256 {digest}, but {recorded.get(name)} when it was first copied"
            )


async def _report_artifacts_problem(
    adapters: Adapters, promotion: Promotion, version: str, reason: ArtifactsReason, error: Exception
) -> None:
    log.warning("%s: the files of version %s are not kept: %s", promotion.owner, version, error)
    state = with_problem(promotion.state, version, reason, str(error), adapters.now())
    await save(adapters, promotion, state)
