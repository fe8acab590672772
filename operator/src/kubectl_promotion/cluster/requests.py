"""Ask the operator for a manual action, and wait until it has handled it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import ModelPromotion, find
from kubectl_promotion.cluster.watch import Lost, Watch, following
from kubectl_promotion.errors import NOT_FOUND, REFUSED, TIMED_OUT, CommandError, ConflictError
from promoter.api.resource import ACTION_ANNOTATION

_ATTEMPTS = 10
_PAUSE_SECONDS = 0.5
IGNORED = "ActionIgnored"


@dataclass(frozen=True)
class Handled:
    """What became of an action.

    Attributes:
        promotion: The object as the operator left it.
        ignored: Why the operator did nothing, "" if it did what was asked.
    """

    promotion: ModelPromotion
    ignored: str = ""


def change(
    kubectl: Kubectl, promotion: ModelPromotion, changes: Callable[[ModelPromotion], Mapping[str, Any]]
) -> ModelPromotion:
    """Change a ModelPromotion; the change is computed anew for each state of it that it might be applied to.

    Args:
        kubectl: The cluster.
        promotion: As it was read.
        changes: Returns a JSON merge patch, or raises CommandError if it does not apply.

    Raises:
        CommandError: the change does not apply, or was refused.
    """
    for _ in range(_ATTEMPTS):
        patch = dict(changes(promotion))
        # Whatever was decided on is what is changed: an abort of version 8 must not end version 9.
        metadata = {**patch.get("metadata", {}), "resourceVersion": promotion.resource_version}
        try:
            document = kubectl.patch(promotion.namespace, promotion.name, {**patch, "metadata": metadata})
        except ConflictError:
            promotion = find(kubectl, promotion.name)
        else:
            return ModelPromotion.read(document)
    raise CommandError(
        f"ModelPromotion {promotion.name} changed {_ATTEMPTS} times while it was being changed here; try again", REFUSED
    )


def request(
    kubectl: Kubectl, promotion: ModelPromotion, action: str, check: Callable[[ModelPromotion], None]
) -> ModelPromotion:
    """Ask for an action.

    Args:
        kubectl: The cluster.
        promotion: As it was read.
        action: Its name in the annotation.
        check: Raises CommandError if the action does not apply to a state.

    Raises:
        CommandError: it does not apply, or another action is still waiting.
    """

    def annotated(found: ModelPromotion) -> Mapping[str, Any]:
        if found.action and found.action != action:
            raise CommandError(
                f"the action {found.action} is still waiting for the operator; try again once it was handled", REFUSED
            )
        check(found)
        return {"metadata": {"annotations": {ACTION_ANNOTATION: action}}}

    return change(kubectl, _forgotten(kubectl, promotion, action), annotated)


def _forgotten(kubectl: Kubectl, promotion: ModelPromotion, action: str) -> ModelPromotion:
    """Wait until the operator no longer takes the action for one that it has handled already."""
    for _ in range(_ATTEMPTS):
        if promotion.action or promotion.state.handled_action != action:
            break
        time.sleep(_PAUSE_SECONDS)
        promotion = find(kubectl, promotion.name)
    return promotion


def wait_until_handled(kubectl: Kubectl, promotion: ModelPromotion, action: str, *, seconds: float) -> Handled:
    """Wait until the operator has handled an action that was asked for.

    Raises:
        CommandError: it did not in time, or the ModelPromotion was deleted meanwhile.
    """
    known = {(event.reason, event.at) for event in promotion.state.pending_events}
    deadline = time.monotonic() + seconds
    lost = ""
    with following(Watch(kubectl, promotion.namespace, promotion.name)) as updates:
        while (left := deadline - time.monotonic()) > 0:
            try:
                update = updates.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(update, CommandError):
                raise update
            if isinstance(update, Lost):
                lost = f" ({update.reason})"
                continue
            if not update:
                raise CommandError(f"ModelPromotion {promotion.name} was deleted", NOT_FOUND)
            found = ModelPromotion.read(update[0])
            # The operator saves what it decided before it removes the annotation.
            if found.state.handled_action == action or not found.action:
                fresh = (event for event in found.state.pending_events if (event.reason, event.at) not in known)
                return Handled(found, next((event.message for event in fresh if event.reason == IGNORED), ""))
    raise CommandError(
        f"the operator has not handled {action} within {seconds:g} s{lost}; it will as soon as it can. Is it running?",
        TIMED_OUT,
    )
