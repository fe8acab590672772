"""Which versions' files are kept in the cluster, so that their pods start without the registry.

The stable version, the one being rolled out, and the previous one: no pod of any other version is started.
"""

from __future__ import annotations

from promoter.api.resource import ArtifactsReason
from promoter.api.status import RESTING, ArtifactsProblem, Event, State
from promoter.decision.actions import DeleteArtifacts, KeepArtifacts
from promoter.decision.copies import copy_of, recorded_copy
from promoter.decision.draft import EVENTS_KEPT, Draft

# Between attempts to copy files: a registry may be back soon, any other problem waits for somebody to solve it. Copies
# lost during a rollout always wait the longer time: an attempt may take many seconds, and the canary must be watched.
REGISTRY_RETRY_SECONDS, RETRY_SECONDS = 5.0, 300.0


def config_maps_for(draft: Draft, version: str | None) -> tuple[str, ...]:
    """Return the ConfigMaps that the stable pods of a version should mount.

    Without a copy the template stays as it is: another template would restart the pods for nothing.
    """
    if copy := copy_of(draft.state, draft.observed, version):
        return copy.config_maps
    stable = draft.observed.stable
    return stable.config_maps if stable.version == version else ()


def ensure_artifacts(draft: Draft, version: str) -> bool:
    """Copy a version's files unless that was done; return whether its pods may start.

    They may also start if the files cannot be kept for a reason other than the registry's absence: then they load from
    the registry, and report what is wrong themselves.
    """
    state, observed, action = draft.state, draft.observed, KeepArtifacts(version)
    if copy_of(state, observed, version):
        return True
    known = state.artifacts_problem
    if observed.artifacts_error:
        if known is None or known.message != observed.artifacts_error:
            draft.state = with_problem(state, version, "Refused", observed.artifacts_error, draft.now)
        return True
    known = known if known and known.version == version else None
    if not _recent(known, draft.now) and not observed.registry.error and action not in draft.actions:
        draft.actions.append(action)
    return known is not None and known.reason != "RegistryUnavailable"


def settle_artifacts(draft: Draft) -> None:
    """Restore copies that were deleted, copy the stable version's files at rest, and delete what no pod can need."""
    for version in (draft.state.stable_version, draft.state.canary_version):
        wanted = recorded_copy(draft.state, version) or draft.state.phase in RESTING
        # One at a time, because the status has room for one problem; a rollout's own attempt goes first.
        if version and wanted and not _copying(draft) and not _tried(draft):
            ensure_artifacts(draft, version)
    state = draft.state
    needed = {state.stable_version, state.canary_version, *state.stable_history[:1]} - {None}
    kept = tuple(copy for copy in state.artifacts if copy.version in needed)
    problem = state.artifacts_problem
    # The previous version's files are kept if they were, but never copied anew: their lack is nothing to report.
    copied = {state.stable_version, state.canary_version}
    if problem and (problem.version not in copied or copy_of(state, draft.observed, problem.version)):
        problem = None
    draft.update(artifacts=kept, artifacts_problem=problem)
    # While pods are being replaced, old ones may still mount what the template no longer names. ConfigMaps that are not
    # in the status yet belong to a copy that a killed operator did not complete: the next attempt uses them.
    if state.phase in RESTING and draft.observed.stable.rolled_out and not _copying(draft):
        used = {name for copy in kept for name in copy.config_maps}
        mounted = {*draft.observed.stable.config_maps, *draft.observed.canary.config_maps}
        if unused := draft.observed.artifacts - used - mounted:
            draft.actions.append(DeleteArtifacts(tuple(sorted(unused))))


def with_problem(state: State, version: str, reason: ArtifactsReason, message: str, now: float) -> State:
    """Return a state that reports why a version's files are not kept; an Event is added once, not at every attempt."""
    known = state.artifacts_problem
    same = known if known and (known.version, known.reason) == (version, reason) else None
    since, events = same.since if same else now, state.pending_events
    if same is None:
        text = f"the files of version {version} could not be kept in the cluster: {message}"
        events = (*events, Event(reason="ArtifactsNotKept", message=text, type="Warning", at=now))[-EVENTS_KEPT:]
    problem = ArtifactsProblem(version=version, reason=reason, message=message, since=since, at=now)
    return state.model_copy(update={"artifacts_problem": problem, "pending_events": events})


def _recent(problem: ArtifactsProblem | None, now: float) -> bool:
    if problem is None:
        return False
    pause = REGISTRY_RETRY_SECONDS if problem.reason == "RegistryUnavailable" else RETRY_SECONDS
    return now - problem.at < pause


def _tried(draft: Draft) -> bool:
    problem = draft.state.artifacts_problem
    if draft.state.phase in RESTING or problem is None:
        return _recent(problem, draft.now)
    return draft.now - problem.at < RETRY_SECONDS


def _copying(draft: Draft) -> bool:
    return any(isinstance(action, KeepArtifacts) for action in draft.actions)
