"""What happens next to a rollout, and when, if nobody intervenes."""

from __future__ import annotations

from dataclasses import dataclass

from promoter.api.durations import seconds
from promoter.api.spec import OnInsufficientData, Spec, Strategy
from promoter.api.status import Phase, State, Verdict
from promoter.decision.approvals import missing_now
from promoter.decision.experiment import completed
from promoter.decision.plan import plan
from promoter.words.picture import step_text
from promoter.words.times import in_words

_RESUME = "kubectl promotion resume"


@dataclass(frozen=True)
class _Here:
    """Where a rollout is, and what time it is."""

    spec: Spec
    state: State
    now: float


def outlook(spec: Spec | None, state: State, now: float) -> list[str]:
    """Return what happens next, the nearest first.

    Args:
        spec: What to follow, None if it is invalid.
        state: The status.
        now: Seconds since 1970.
    """
    if spec is None:
        return ["nothing: the spec is invalid, and the stable version keeps serving until it is mended"]
    return _BY_PHASE[state.phase](_Here(spec, state, now))


def step_ends_at(spec: Spec, state: State) -> float | None:
    """Return when the current step's time is up, None if it never is, or if its clock has not started."""
    steps = plan(spec)
    if state.step_index >= len(steps) or state.paused_for_data:
        return None
    length = steps[state.step_index].seconds
    since = state.phase_started_at if state.phase == Phase.PAUSED else state.step_started_at
    return None if length is None or since is None else since + length


def _initializing(here: _Here) -> list[str]:
    return [f"the first version that {_pointer(here.spec)} names is promoted without a canary"]


def _idle(here: _Here) -> list[str]:
    if here.spec.suspend:
        return [f"nothing: suspended; {_RESUME} lets it start rollouts again"]
    kept = _kept(here)
    if completed(here.spec, here.state):
        again = f"nothing, until the experiment is repeated (kubectl promotion retry) or {_pointer(here.spec)} moves"
        return [again, *kept]
    kind, value = here.spec.model.pointer
    if kind == "version":
        return [f"nothing: version {value} is pinned", *kept]
    return [f"a rollout, once {_pointer(here.spec)} names another version", *kept]


def _kept(here: _Here) -> list[str]:
    version, until = here.state.kept_version, here.state.kept_until
    if version is None or until is None:
        return []
    return [f"version {version} stays ready for a return within seconds (kubectl promotion undo), and is deleted "
            f"{in_words(until - here.now)}"]  # fmt: skip


def _starting(here: _Here) -> list[str]:
    if here.spec.suspend:
        return [f"nothing: suspended; {_RESUME} lets it go on"]
    first = "the promotion, without analysis" if here.spec.skip_analysis else _step_name(here.spec, 0)
    return [f"{first}, once the canary is ready", *_deadline(here, "a rollback, if it is not ready")]


def _progressing(here: _Here) -> list[str]:
    if here.state.step_index >= len(plan(here.spec)):
        return ["the steps of the spec have changed: the last one is entered again"]
    ends = step_ends_at(here.spec, here.state)
    if ends is None:
        return [
            f"the step's clock starts once every stable pod applies {here.state.weight} %",
            *_deadline(here, "a rollback, if one does not"),
        ]
    return [_after_step(here, ends - here.now), *_analysis(here)]


def _after_step(here: _Here, left: float) -> str:
    following = _step_name(here.spec, here.state.step_index + 1)
    if here.spec.suspend:
        return f"nothing: suspended at this step; {_RESUME} lets it go on to {following}"
    last = here.state.step_index == len(plan(here.spec)) - 1
    if here.spec.strategy == Strategy.EXPERIMENT and last:
        return f"{following} {in_words(max(left, 0.0))}, unless a check fails"
    if left > 0:
        return f"{following} {in_words(left)}, if every check is Successful then"
    verdict = here.state.analysis.verdict if here.state.analysis else Verdict.INCONCLUSIVE
    choice = here.spec.analysis.on_insufficient_data
    if verdict == Verdict.INCONCLUSIVE and choice == OnInsufficientData.PROCEED:
        return f"{following} after the next analysis, unless a check fails"
    if verdict == Verdict.INCONCLUSIVE and choice == OnInsufficientData.PAUSE:
        return "a pause until resumed, unless the next analysis has enough samples"
    return f"{following} as soon as every check is Successful"


def _analysis(here: _Here) -> list[str]:
    """Return when the canary is analyzed again, and how many more Failed verdicts it may get."""
    if here.state.analyzed_at is None:
        return []
    due = here.state.analyzed_at + seconds(here.spec.analysis.interval) - here.now
    lines = [f"an analysis {in_words(due)}"]
    left = here.spec.analysis.failure_limit - here.state.failures
    if here.state.failures or left == 1:
        lines.append(f"a rollback after {left} more Failed verdict{'s' if left != 1 else ''} "
                     f"({here.state.failures} so far)")  # fmt: skip
    if here.state.errors:
        lines.append(f"a rollback after {here.spec.analysis.error_limit - here.state.errors} more Errors in a row "
                     f"({here.state.errors} so far)")  # fmt: skip
    return lines


def _paused(here: _Here) -> list[str]:
    following = _step_name(here.spec, here.state.step_index + 1)
    analysis = _analysis(here) if here.state.weight and here.state.step_started_at is not None else []
    ends = step_ends_at(here.spec, here.state)
    if lacking := missing_now(here.spec, here.state):
        return [f"{following}, once it has its approvals: {lacking}; to give one: kubectl promotion approve", *analysis]
    if ends is None:
        return [f"{following}, when a person resumes it: {_RESUME}", *analysis]
    return [_after_step(here, ends - here.now), *analysis]


def _promoting(here: _Here) -> list[str]:
    done = [f"version {here.state.canary_version} is promoted, once every stable pod serves it"]
    if here.state.stable_version is None:
        return done
    return [*done, *_deadline(here, "a rollback, if the rolling update is not over")]


def _draining(here: _Here) -> list[str]:
    alone = f"version {here.state.stable_version} serves alone"
    end = "the rollout is over" if here.state.phase == Phase.FINISHING else alone
    return [f"the canary is deleted, and {end}"]


def _failed(here: _Here) -> list[str]:
    return [
        f"a rollout, once {_pointer(here.spec)} names another version",
        f"version {here.state.desired_version} is tried again only when asked: kubectl promotion retry",
    ]


_BY_PHASE = {
    Phase.INITIALIZING: _initializing,
    Phase.IDLE: _idle,
    Phase.STARTING: _starting,
    Phase.PROGRESSING: _progressing,
    Phase.PAUSED: _paused,
    Phase.PROMOTING: _promoting,
    Phase.FINISHING: _draining,
    Phase.STOPPING: _draining,
    Phase.ROLLING_BACK: _draining,
    Phase.FAILED: _failed,
}


def _deadline(here: _Here, what: str) -> list[str]:
    if here.state.phase_started_at is None:
        return []
    return [f"{what} {in_words(here.state.phase_started_at + here.spec.progress_deadline_seconds - here.now)}"]


def _step_name(spec: Spec, index: int) -> str:
    steps = plan(spec)
    if index >= len(steps):
        return "the end of the experiment" if spec.strategy == Strategy.EXPERIMENT else "the promotion"
    return f"step {index + 1}/{len(steps)} ({step_text(steps[index])})"


def _pointer(spec: Spec) -> str:
    kind, value = spec.model.pointer
    return f"the {kind} {value}"
