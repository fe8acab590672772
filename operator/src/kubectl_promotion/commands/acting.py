"""`pause`, `resume`, `abort`, `promote`, `retry`, `undo` and `follow`: what changes a rollout.

Manual actions are the annotation that docs/promotion.md describes, so they need the permission to patch a
ModelPromotion and no other; the operator does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import typer

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import ModelPromotion, find
from kubectl_promotion.cluster.requests import change, request, wait_until_handled
from kubectl_promotion.commands.waiting import parse_timeout
from kubectl_promotion.completion_sources import complete_versions
from kubectl_promotion.errors import NOT_FOUND, REFUSED, USAGE, CommandError
from kubectl_promotion.options import Name, Timeout, with_cluster
from kubectl_promotion.views.output import write
from promoter.api.spec import Strategy
from promoter.api.status import INTERRUPTIBLE, Phase
from promoter.decision.experiment import completed
from promoter.words.outlook import step_ends_at

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the operator has handled it.")]
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_IN_STEPS = frozenset({Phase.PROGRESSING, Phase.PAUSED})


@with_cluster
def pause(kubectl: Kubectl, name: Name = None) -> None:
    """Stay at the current step, and start no rollout (spec.suspend). A version that fails is still rolled back."""
    promotion = find(kubectl, name)
    if promotion.spec is not None and promotion.spec.suspend:
        write(f"{promotion.name} is paused already")
        return
    change(kubectl, promotion, lambda _: {"spec": {"suspend": True}})
    write(f"{promotion.name} is paused: it stays where it is until `kubectl promotion resume`")


@with_cluster
def resume(kubectl: Kubectl, name: Name = None, wait: Wait = True, timeout: Timeout = "30s") -> None:
    """Go on after `pause`, or with the next step after a step that is a pause."""
    promotion = find(kubectl, name)
    if promotion.spec is not None and promotion.spec.suspend:
        found = change(kubectl, promotion, lambda _: {"spec": {"suspend": False}})
        also = "; the step that it is at is a pause: resume once more for the next step"
        at_pause = found.state.phase == Phase.PAUSED and found.spec and step_ends_at(found.spec, found.state) is None
        write(f"{promotion.name} goes on{also if at_pause else ''}")
        return
    _act(kubectl, promotion, "resume", _check_paused, wait, timeout)


@with_cluster
def abort(kubectl: Kubectl, name: Name = None, wait: Wait = True, timeout: Timeout = "30s") -> None:
    """Roll the version that is being rolled out back; it is not tried again until `retry`."""

    def check(found: ModelPromotion) -> None:
        if found.state.phase not in INTERRUPTIBLE or found.state.stable_version is None:
            raise _does_not_apply(found, "only a rollout in progress can be aborted, until every stable pod serves its "
                                         "version; for what is stable, see undo")  # fmt: skip

    _act(kubectl, find(kubectl, name), "abort", check, wait, timeout)


@with_cluster
def promote(
    kubectl: Kubectl,
    name: Name = None,
    full: Annotated[bool, typer.Option("--full", help="Skip all steps: promote the canary's version now.")] = False,
    skip_step: Annotated[bool, typer.Option("--skip-step", help="Skip the rest of the current step.")] = False,
    wait: Wait = True,
    timeout: Timeout = "30s",
) -> None:
    """Go on with the next step after a pause; with --skip-step from any step, with --full to the promotion."""
    if full and skip_step:
        raise CommandError("--full and --skip-step exclude each other", USAGE)
    promotion = find(kubectl, name)
    if full:
        _act(kubectl, promotion, "promote", _check_canary, wait, timeout)
    elif skip_step:
        _act(kubectl, promotion, "skip-step", _check_in_steps, wait, timeout)
    else:
        _act(kubectl, promotion, "resume", _check_paused, wait, timeout)


@with_cluster
def retry(kubectl: Kubectl, name: Name = None, wait: Wait = True, timeout: Timeout = "30s") -> None:
    """Roll a version out again that failed, or whose experiment is complete, and that the pointer still names."""

    def check(found: ModelPromotion) -> None:
        failed = found.state.phase == Phase.FAILED and found.state.failed(found.state.desired_version) is not None
        over = found.spec is not None and found.state.phase == Phase.IDLE and completed(found.spec, found.state)
        if not failed and not over:
            raise _does_not_apply(found, "only a version that failed or whose experiment is complete, and that the "
                                         "pointer names, can be retried")  # fmt: skip

    _act(kubectl, find(kubectl, name), "retry", check, wait, timeout)


@with_cluster
def undo(
    kubectl: Kubectl,
    name: Name = None,
    to_version: Annotated[str | None, typer.Option(
        help="Default: the one that was stable before.", autocompletion=complete_versions)] = None,
) -> None:  # fmt: skip
    """Go back to a former stable version, by pinning it (spec.model.version); `follow` follows the pointer again."""
    if to_version is not None and not _VERSION.fullmatch(to_version):
        raise CommandError(f"--to-version: {to_version!r}; allowed: the number of a version", USAGE)
    promotion = find(kubectl, name)
    if promotion.spec is None:
        raise _does_not_apply(promotion, f"its spec is invalid, so nothing is rolled out: {promotion.parsed_spec}")
    kind, pointer = promotion.spec.model.pointer
    wanted = _former(promotion, to_version)

    def pinned(found: ModelPromotion) -> dict[str, Any]:
        if _former(found, to_version) != wanted:
            raise _does_not_apply(found, f"version {wanted} is no longer the one before; look, and try again")
        return {"spec": {"model": {"version": wanted, "alias": None, "stage": None}}}

    state = change(kubectl, promotion, pinned).state
    recent = state.stable_history[: promotion.spec.rollback_window]
    how = "without a canary, because it was stable recently" if wanted in recent else "through the steps of a rollout"
    write(f"{promotion.name} goes back to version {wanted}, {how}; to wait for it: "
          f"kubectl promotion status {promotion.name} --version {wanted}")  # fmt: skip
    if kind != "version":
        write(f"it no longer follows the {kind} {pointer}; once that names a good version: "
              f"kubectl promotion follow {promotion.name} --{kind} {pointer}")  # fmt: skip


@with_cluster
def follow(
    kubectl: Kubectl,
    name: Name = None,
    alias: Annotated[str | None, typer.Option(help="Default: production.")] = None,
    stage: Annotated[str | None, typer.Option(help="Its newest version.")] = None,
) -> None:
    """Follow an alias or a stage of the registry (again)."""
    if alias is not None and stage is not None:
        raise CommandError("--alias and --stage exclude each other", USAGE)
    chosen = None if stage else alias or "production"
    changes = {"spec": {"model": {"alias": chosen, "stage": stage, "version": None}}}
    found = change(kubectl, find(kubectl, name), lambda _: changes)
    write(f"{found.name} follows the {'stage' if stage else 'alias'} {stage or chosen}")


def _former(promotion: ModelPromotion, version: str | None) -> str:
    """Return the version to go back to.

    Raises:
        CommandError: there is none, or it would not be served.
    """
    state = promotion.state
    if version is None and state.phase in INTERRUPTIBLE and state.stable_version is not None:
        raise _does_not_apply(promotion, "a rollout is in progress, and version "
                                         f"{state.stable_version} is still stable: abort it instead")  # fmt: skip
    wanted = version or next(iter(state.stable_history), None)
    if wanted is None:
        raise CommandError(f"{promotion.name} has no former stable version; name one with --to-version", NOT_FOUND)
    if wanted == state.stable_version == state.desired_version:
        raise _does_not_apply(promotion, f"version {wanted} is stable already")
    if failed := state.failed(wanted):
        raise _does_not_apply(promotion, f"version {wanted} was rolled back ({failed.reason}) and would not be tried "
                                         "again; see retry")  # fmt: skip
    return wanted


def _act(
    kubectl: Kubectl, promotion: ModelPromotion, action: str, check: Callable[[ModelPromotion], None],
    wait: bool, timeout: str,
) -> None:  # fmt: skip
    """Ask for an action and say what became of it."""
    limit = parse_timeout(timeout)
    asked = request(kubectl, promotion, action, check)
    if not wait:
        write(f"{asked.name}: asked for {action}")
        return
    handled = wait_until_handled(kubectl, asked, action, seconds=limit)
    if handled.ignored:
        raise CommandError(f"{asked.name}: {handled.ignored}", REFUSED)
    state = handled.promotion.state
    write(f"{asked.name}: {action} done; {state.phase}: {state.message}")


def _check_paused(found: ModelPromotion) -> None:
    if found.state.phase != Phase.PAUSED:
        more = " (promote --skip-step ends the current step)" if found.state.phase == Phase.PROGRESSING else ""
        raise _does_not_apply(found, f"only a rollout that is paused can be resumed{more}")


def _check_in_steps(found: ModelPromotion) -> None:
    if found.state.phase not in _IN_STEPS:
        raise _does_not_apply(found, "only a step of a rollout in progress can be skipped")


def _check_canary(found: ModelPromotion) -> None:
    if found.state.phase not in _IN_STEPS | {Phase.STARTING}:
        raise _does_not_apply(found, "only a version whose canary is ready can be promoted")
    if found.spec is not None and found.spec.strategy == Strategy.EXPERIMENT:
        raise _does_not_apply(found, "an Experiment promotes nothing; set spec.strategy to Canary or BlueGreen")


def _does_not_apply(found: ModelPromotion, why: str) -> CommandError:
    return CommandError(f"{found.name} is in phase {found.state.phase}: {why}", REFUSED)
