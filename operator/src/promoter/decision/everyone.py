"""The end of a rollout for applicants: the canary answers all of them before the stable pods change their version.

While the stable pods are updated, an applicant reaches now one of the old version and now one of the new. If the old
ones send everybody to the canary, both give the new version's answer, so that nobody whom it answered is answered by
the old one again. That takes as many canary pods as there are stable ones. Where there is no room for them, the canary
keeps its share: every request is answered, and applicants outside the share may see both versions until the update is
complete.
"""

from __future__ import annotations

from promoter.api.spec import Strategy
from promoter.decision.actions import ApplyCanary
from promoter.decision.copies import copy_of
from promoter.decision.draft import Draft
from promoter.decision.plan import EVERYONE, step_at
from promoter.decision.replicas import pods_in_steps, pods_without_room

# How long a promotion waits for more canary pods: less if its deadline is short, and not long if they are refused.
READY_SECONDS, READY_SHARE, REFUSED_SECONDS = 60.0, 0.25, 10.0
_WAITING = "waiting for the canary to answer all applicants before the stable pods are updated: "


def ensure_canary(draft: Draft, replicas: int, version: str = "") -> None:
    """Bring the canary's Deployment in line with a version (that being rolled out), with so many pods."""
    version, canary = version or draft.state.canary_version or "", draft.observed.canary
    copy = copy_of(draft.state, draft.observed, version)
    # A copy that was deleted meanwhile is no reason to restart the pods that have it.
    kept = canary.config_maps if canary.version == version else ()
    config_maps = copy.config_maps if copy else kept
    wanted = (version, replicas, draft.observed.stable.template, config_maps)
    if wanted != (canary.version, canary.replicas, canary.template, canary.config_maps):
        draft.actions.append(ApplyCanary(version, replicas, config_maps))


def everyone_at_canary(draft: Draft) -> bool:
    """Let the canary answer everybody; return whether the stable pods may change their version now.

    They may once all of them send everybody to the canary, if there is no room for its pods, or if there is no canary,
    because the version is the first one or was stable recently.
    """
    canary, stable = draft.observed.canary, draft.observed.stable
    if canary.version != draft.state.canary_version:
        return True
    needed = max(draft.spec.canary.replicas, stable.wanted)
    if canary.ready < needed:
        longest = min(READY_SECONDS, READY_SHARE * draft.spec.progress_deadline_seconds)
        if draft.waited >= (min(longest, REFUSED_SECONDS) if canary.refused else longest):
            _keep_share(draft, pods_in_steps(draft.spec, stable))
            return True
        ensure_canary(draft, needed)
        ready = f"{canary.ready} of {needed} pods are ready"
        draft.set_message(_WAITING + "; ".join(filter(None, (ready, canary.waiting, canary.refused))))
        return False
    draft.update(weight=EVERYONE)
    lagging = draft.pods_without_route() if draft.state.route.weight == EVERYONE else ["the route is being written"]
    if lagging and draft.overdue:
        draft.roll_back("RouteNotSeen", f"stable pods did not apply the weight: {', '.join(lagging)}")
    elif lagging:
        draft.set_message(_WAITING + ", ".join(lagging))
    return not lagging


def give_room_back(draft: Draft) -> None:
    """If the stable pods lack the room that the canary takes, let it have as few pods as answer its share."""
    fewest = pods_without_room(draft.spec, draft.observed.stable)
    if draft.observed.stable.stalled and draft.observed.canary.replicas > fewest:
        _keep_share(draft, fewest)


def _keep_share(draft: Draft, replicas: int) -> None:
    step = step_at(draft.spec, draft.state.step_index)
    share = step.weight if step.mode != "shadow" else 0
    if draft.spec.strategy == Strategy.BLUE_GREEN:
        # Its pods are enough for everybody, whichever step it was promoted from.
        share = EVERYONE
    ensure_canary(draft, replicas)
    draft.update(weight=min(draft.state.weight, share))
