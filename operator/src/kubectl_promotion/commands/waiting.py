"""`status`: wait until a rollout is over, with an exit code for CI."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import ModelPromotion, find
from kubectl_promotion.cluster.watch import Watch, following
from kubectl_promotion.commands.live import changes
from kubectl_promotion.completion_sources import complete_versions
from kubectl_promotion.errors import NOT_PROMOTED, PAUSED, TIMED_OUT, USAGE, CommandError
from kubectl_promotion.options import Name, Output, Timeout, with_cluster
from kubectl_promotion.views.lines import progress_line
from kubectl_promotion.views.output import Format, warn, write, write_document
from kubectl_promotion.words.experiment import last_report
from promoter.api.durations import seconds
from promoter.api.status import RESTING, Phase, State
from promoter.decision.approvals import missing_now
from promoter.decision.experiment import describe
from promoter.words.outlook import step_ends_at


@dataclass(frozen=True)
class Outcome:
    """How what was waited for ended, in words and as an exit code."""

    code: int
    message: str


@with_cluster
def status(
    kubectl: Kubectl,
    name: Name = None,
    version: Annotated[str | None, typer.Option(
        help="Wait for this version's rollout. Without it, a pointer that was moved a moment ago may not have been "
             "noticed yet, and the version before it counts as promoted.", autocompletion=complete_versions)] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait, or judge what is now.")] = True,
    stop_at_pause: Annotated[bool, typer.Option(
        "--stop-at-pause", help="End with 8 where the rollout waits for a person.")] = False,
    timeout: Timeout = "30m",
    output: Output = Format.TEXT,
) -> None:  # fmt: skip
    """Wait until the rollout is over. Exit code 0: promoted, or experiment over, 6: not, 7: not in time, 8: paused."""
    deadline = time.monotonic() + parse_timeout(timeout)
    promotion = find(kubectl, name)
    ended = outcome(promotion, version, stop_at_pause=stop_at_pause)
    if ended is None and wait:
        promotion, ended = _follow(kubectl, promotion, version, deadline, stop_at_pause=stop_at_pause)
    if ended is None:
        words = f"not over within {timeout}" if wait else "not over"
        ended = Outcome(TIMED_OUT, f"{words}: {progress_line(promotion, time.time()).partition(' ')[2]}")
    if output == Format.TEXT:
        write(ended.message)
    else:
        write_document({"code": ended.code, "message": ended.message, "status": promotion.document.get("status")},
                       output)  # fmt: skip
    raise typer.Exit(ended.code)


def outcome(promotion: ModelPromotion, version: str | None, *, stop_at_pause: bool = False) -> Outcome | None:
    """Return how the rollout of a version (None: of the desired one) ended, None while it has not."""
    state = promotion.state
    if promotion.spec is None:
        return Outcome(NOT_PROMOTED, f"nothing is rolled out: {promotion.parsed_spec}")
    if not promotion.is_current:
        return None
    wanted = version or state.desired_version
    in_progress = state.canary_version if state.phase not in RESTING else None
    if wanted is not None and (wanted != in_progress or state.phase == Phase.FINISHING):
        ended = _ended(state, wanted)
        if ended is not None:
            return ended
    if stop_at_pause and _waits_for_a_person(promotion):
        return Outcome(PAUSED, f"waiting for a person: {state.message}")
    return None


def _ended(state: State, version: str) -> Outcome | None:
    """Return how the rollout of a version that is not in progress ended, None if it has not begun."""
    if version == state.stable_version and state.phase in {Phase.IDLE, Phase.FINISHING}:
        return Outcome(0, f"version {version} is promoted")
    if version == state.completed_version and (ended := last_report(state, version)) and ended.report:
        return Outcome(0, f"the experiment with version {version} is complete: {describe(ended.report)}")
    if failed := state.failed(version):
        return Outcome(NOT_PROMOTED, f"version {version} was rolled back ({failed.reason}): {failed.message}")
    if version != state.desired_version:
        entry = next((entry for entry in state.history if entry.version == version), None)
        if entry is not None and entry.report is not None:
            return Outcome(0, f"the experiment with version {version} is complete: {describe(entry.report)}")
        if entry is not None and entry.outcome != "Promoted":
            return Outcome(NOT_PROMOTED, f"the rollout of version {version} was stopped ({entry.reason})")
    return None


def parse_timeout(text: str) -> float:
    """Return a timeout in seconds.

    Raises:
        CommandError: it is not a duration.
    """
    try:
        return seconds(text)
    except ValueError as error:
        raise CommandError(f"--timeout: {error}", USAGE) from error


def _waits_for_a_person(promotion: ModelPromotion) -> bool:
    state, spec = promotion.state, promotion.spec
    if spec is None:
        return False
    paused = state.phase == Phase.PAUSED and (step_ends_at(spec, state) is None or missing_now(spec, state) != "")
    return spec.suspend or paused


def _follow(
    kubectl: Kubectl, promotion: ModelPromotion, version: str | None, deadline: float, *, stop_at_pause: bool
) -> tuple[ModelPromotion, Outcome | None]:
    said = ""
    with following(Watch(kubectl, promotion.namespace, promotion.name)) as updates:
        for found in changes(updates, promotion.name, deadline=deadline):
            promotion = found
            if (ended := outcome(promotion, version, stop_at_pause=stop_at_pause)) is not None:
                return promotion, ended
            line = progress_line(promotion, time.time())
            # Progress goes to stderr: stdout has the result alone.
            if (words := line.partition(" ")[2]) != said:
                said = words
                warn(line)
    return promotion, None
