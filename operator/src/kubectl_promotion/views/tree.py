"""One ModelPromotion as a tree: versions with their pods, steps, checks, and what happens next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from kubectl_promotion.cluster.promotions import Check, ModelPromotion
from kubectl_promotion.cluster.workloads import Pod, Workload, Workloads
from kubectl_promotion.views import marks
from kubectl_promotion.views.output import plain, table
from promoter.api.spec import Spec
from promoter.api.status import RESTING, AnalysisResult, State, Verdict
from promoter.words.approvals import approval_lines
from promoter.words.numbers import interval, number
from promoter.words.outlook import outlook, step_ends_at
from promoter.words.picture import live_share, shown_steps, weight_text
from promoter.words.times import duration

_CHECK_COLUMNS = ("CHECK", "VALUE", "LIMIT", "CONFIDENCE", "SAMPLES", "VERDICT")
_MOST_PODS = 20


def picture(promotion: ModelPromotion, workloads: Workloads, now: float, lost: str = "") -> RenderableType:
    """Return all that is known about a ModelPromotion.

    Args:
        promotion: As it was last read.
        workloads: As they were last read.
        now: Seconds since 1970.
        lost: Why this may be out of date, "" if it is not.
    """
    parts: list[RenderableType] = [_head(promotion, now), "", _tree(promotion, workloads, now)]
    if promotion.state.analysis is not None:
        parts += ["", _checks(promotion.state.analysis, promotion.checks, now)]
    if workloads.hidden:
        parts += ["", Text(f"not shown: {plain(workloads.hidden)}", style="yellow")]
    if lost:
        parts += ["", Text(f"connection lost, trying again: {plain(lost)}", style="yellow")]
    return Group(*parts)


def _head(promotion: ModelPromotion, now: float) -> Table:
    state, spec = promotion.state, promotion.spec
    found = Table(box=None, pad_edge=False, show_header=False)
    found.add_column(style="bold", no_wrap=True)
    found.add_column(overflow="fold")
    found.add_row("Name:", plain(f"{promotion.namespace}/{promotion.name}"))
    if spec is not None:
        kind, value = spec.model.pointer
        found.add_row("Model:", plain(f"{spec.model.name}, {kind} {value}"))
    found.add_row("Phase:", Text.assemble(marks.phase(state.phase), _position(spec, state, now)))
    found.add_row("Weight:", weight_text(state))
    if state.phase not in RESTING:
        for index, line in enumerate(approval_lines(spec, state, now)):
            found.add_row("" if index else "Approvals:", plain(line))
    for kind, mark in (("Ready", "False"), ("Degraded", "True"), ("Drifted", "True")):
        condition = state.condition(kind)
        if condition and condition.status == mark:
            name = kind if mark == "True" else f"Not{kind}"
            found.add_row("", marks.mark("✖", "red", f"{name}: {condition.reason}"))
    found.add_row("Message:", plain(state.message))
    if retraining := state.condition("Retraining"):
        found.add_row("Retraining:", plain(f"{retraining.message} ({retraining.reason})"))
    if promotion.action:
        found.add_row("Asked:", marks.mark("◌", "cyan", f"{promotion.action}, not handled by the operator yet"))
    if not promotion.is_current:
        found.add_row("", Text("the operator has not seen the newest spec yet", style="yellow"))
    for index, line in enumerate(outlook(spec, state, now)):
        found.add_row("" if index else "Next:", plain(line))
    return found


def _position(spec: Spec | None, state: State, now: float) -> str:
    position = f", step {state.step}" if state.step else ""
    suspended = ", suspended" if spec and spec.suspend else ""
    since = f", for {duration(now - state.phase_started_at)}" if state.phase_started_at is not None else ""
    return f"{position}{suspended}{since}"


def _tree(promotion: ModelPromotion, workloads: Workloads, now: float) -> Tree:
    state = promotion.state
    root = Tree(Text(plain(promotion.name), style="bold"), guide_style="dim")
    share = live_share(state)
    if state.stable_version or workloads.stable:
        _add_version(root, state.stable_version, "stable", 100 - share, workloads.stable, now)
    if state.canary_version or workloads.canary:
        role = "canary" if state.canary_version or not state.kept_version else "kept"
        _add_version(root, state.canary_version or state.kept_version, role, share, workloads.canary, now)
    if promotion.spec is not None:
        steps = root.add(Text("steps", style="bold"))
        for line in _steps(promotion.spec, state, now):
            steps.add(line)
    return root


def _add_version(root: Tree, version: str | None, role: str, share: int, workload: Workload | None, now: float) -> None:
    branch = root.add(Text.assemble((f"version {plain(version)}", "bold"), f" {role}, {share} %"))
    if workload is None:
        return
    enough = workload.available >= workload.wanted
    counts = f"{workload.available} of {workload.wanted} pods available, {workload.updated} updated"
    line = marks.mark("✔" if enough else "◌", "green" if enough else "yellow", f"Deployment {workload.name}: {counts}")
    inner = branch.add(line)
    for pod in (workload.pods or ())[:_MOST_PODS]:
        inner.add(_pod(pod, version, now))
    if (hidden := len(workload.pods or ()) - _MOST_PODS) > 0:
        inner.add(f"and {hidden} more")


def _pod(pod: Pod, version: str | None, now: float) -> Text:
    serves = f", version {pod.version}" if pod.version != version else ""
    restarts = f", {pod.restarts} restarts" if pod.restarts else ""
    age = f", {duration(now - pod.started_at)}" if pod.started_at is not None else ""
    sign, color = ("✔", "green") if pod.ready else ("◌", "yellow")
    return marks.mark(sign, color, f"{pod.name} {pod.condition}{serves}{restarts}{age}")


def _steps(spec: Spec, state: State, now: float) -> Iterator[Text]:
    for step in shown_steps(spec, state):
        words = f"{step.number}: {step.text}"
        if step.place == "current":
            yield marks.mark("◌", "cyan", f"{words}{_progress(spec, state, now)}")
        elif step.place == "passed":
            yield marks.mark("✔", "green", words)
        else:
            yield marks.mark("·", "dim", words)


def _progress(spec: Spec, state: State, now: float) -> str:
    ends = step_ends_at(spec, state)
    if ends is None:
        return ", waiting"
    return f", {duration(ends - now)} left" if ends > now else f", time is up since {duration(now - ends)}"


def _checks(analysis: AnalysisResult, checks: Sequence[Check], now: float) -> RenderableType:
    title = Text.assemble(("checks", "bold"), f", {duration(now - analysis.at)} ago: ", marks.verdict(analysis.verdict))
    why = (plain(check.result.message) for check in checks if check.result.verdict != Verdict.SUCCESSFUL)
    return Group(title, table(_CHECK_COLUMNS, map(_check, checks)), *why)


def _check(check: Check) -> tuple[object, ...]:
    result = check.result
    return (
        result.name,
        number(result.value),
        number(result.limit),
        interval(check.lower, check.upper),
        result.samples,
        marks.verdict(result.verdict),
    )
