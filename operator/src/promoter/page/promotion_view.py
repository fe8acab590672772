"""The picture of one ModelPromotion: what serves, where the rollout is, how it is judged, and what happens next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promoter.api.rules import InvalidSpecError
from promoter.api.spec import Spec
from promoter.api.status import RESTING, MetricResult, State, Verdict
from promoter.page.charts import check_chart, share_bar
from promoter.page.html import Content, Html, element, join
from promoter.page.pieces import clock, facts, marked, section, table, with_clocks
from promoter.page.records import Facts, Record
from promoter.page.workloads_view import versions
from promoter.words.marks import OUTCOMES, PHASES, UNKNOWN, VERDICTS, Mark
from promoter.words.numbers import interval, number
from promoter.words.outlook import outlook, step_ends_at
from promoter.words.picture import live_share, shown_steps, weight_text
from promoter.words.reasons import PROBLEMS, ROLLBACKS

_CHECK_COLUMNS = ("Check", "Value", "Limit", "Confidence", "Samples", "Verdict", "Over time")
_EVENTS_SHOWN = 12
_STEP_MARKS = {"passed": Mark("✔", "good"), "current": Mark("◌", "busy"), "ahead": UNKNOWN}
# The condition, and its status that deserves attention.
_TROUBLES = (
    ("Ready", "False"), ("Degraded", "True"), ("RegistryReachable", "False"), ("ArtifactsKept", "False"),
    ("Drifted", "True"),
)  # fmt: skip


def promotion_picture(record: Record, now: float) -> Html:
    """Return all that is known about a ModelPromotion at a time, in seconds since 1970."""
    shown = record.facts
    spec = shown.spec
    followed = spec if isinstance(spec, Spec) else None
    return join(
        section("overview", "Now", _overview(shown, followed, now)),
        section("next", "What happens next", _next(shown, followed, now)),
        section("steps", "Steps", _steps(followed, shown.state, now)),
        section("versions", "Versions and pods", versions(shown.state, live_share(shown.state), shown.snapshot, now)),
        section("checks", "Checks", _checks(record, followed, now)),
        section("timeline", "Timeline", _timeline(record, now)),
        section("history", "History", _history(shown.state, now)),
    )


def announcement(shown: Facts) -> str:
    """Return what is worth saying aloud; it changes with phase, step, weight and verdict, not with each number."""
    state = shown.state
    parts = [
        f"{state.phase}",
        f"step {state.step}" if state.step else "",
        f"weight {state.weight} %" if state.canary_version else "",
        f"checks {state.analysis.verdict}" if state.analysis else "",
    ]
    return ", ".join(part for part in parts if part)


def _overview(shown: Facts, spec: Spec | None, now: float) -> Content:
    state = shown.state
    since = None if state.phase_started_at is None else clock(state.phase_started_at, now, "for")
    position = [f"step {state.step}, " if state.step else None, "suspended, " if spec and spec.suspend else None]
    words = weight_text(state)
    shares = [share_bar(live_share(state), words), element("p", words, class_="weight")]
    return [
        element("p", marked(PHASES[state.phase], state.phase.value, "badge"), " ", position, since, class_="phase"),
        shares if state.canary_version else None,
        element("p", state.message, class_="message") if state.message else None,
        _troubles(shown),
        facts(_facts(shown, spec)),
    ]


def _facts(shown: Facts, spec: Spec | None) -> Iterator[tuple[str, Content]]:
    if spec is not None:
        kind, value = spec.model.pointer
        yield "Model", f"{spec.model.name}, {kind} {value}"
    state = shown.state
    yield "Deployment", state.target or "scoring"
    yield "Stable", _version(state.stable_version)
    yield "Canary", _version(state.canary_version)
    yield "Pointer names", _version(state.desired_version)
    if state.approvals and state.approvals.given and state.phase not in RESTING:
        yield "Approved by", ", ".join(dict.fromkeys(approval.user for approval in state.approvals.given))
    if retraining := state.condition("Retraining"):
        yield "Retraining", f"{retraining.message} ({retraining.reason})"


def _version(version: str | None) -> str:
    return f"version {version}" if version else "none"


def _troubles(shown: Facts) -> Html | None:
    """Return what has to be mended, with what to do about it."""
    state, found = shown.state, []
    for kind, status in _TROUBLES:
        condition = state.condition(kind)
        if condition and condition.status == status:
            meaning = PROBLEMS.get(condition.reason) or ROLLBACKS.get(condition.reason)
            name = kind if status == "True" else f"Not {kind}"
            found.append(element(
                "li", marked(Mark("✖", "bad"), f"{name}: {condition.reason}"), element("p", condition.message),
                element("p", f"What to do: {meaning.advice}.", class_="hint") if meaning else None,
            ))  # fmt: skip
    if isinstance(shown.spec, InvalidSpecError) and not found:
        found.append(element("li", marked(Mark("✖", "bad"), "Invalid spec"), element("p", str(shown.spec))))
    return element("ul", found, class_="troubles") if found else None


def _next(shown: Facts, spec: Spec | None, now: float) -> Html:
    lines = [element("li", with_clocks(line, now)) for line in outlook(spec, shown.state, now)]
    return element("ul", lines, class_="outlook")


def _steps(spec: Spec | None, state: State, now: float) -> Html:
    if spec is None:
        return element("p", "The spec is invalid.", class_="hint")
    ends = step_ends_at(spec, state)
    items = []
    for step in shown_steps(spec, state):
        current = step.place == "current"
        left = [", ends ", clock(ends, now, "in")] if current and ends is not None else None
        said = None if step.place == "ahead" else element("span", f" ({step.place})", class_="unseen")
        items.append(element(
            "li", marked(_STEP_MARKS[step.place], f"{step.number}: {step.text}"), left, said,
            class_=step.place, aria_current="step" if current else None,
        ))  # fmt: skip
    return element("ol", items, class_="steps")


def _checks(record: Record, spec: Spec | None, now: float) -> Content:
    analysis = record.facts.state.analysis
    if analysis is None:
        return element("p", "The canary has not been analyzed in this step.", class_="hint")
    why = [element("li", result.message) for result in analysis.results if result.verdict != Verdict.SUCCESSFUL]
    interval_text = f", every {spec.analysis.interval}" if spec else ""
    return [
        element("p", marked(VERDICTS[analysis.verdict], analysis.verdict.value, "badge"), " ", clock(analysis.at, now),
                interval_text),
        table("Results of the last analysis", _CHECK_COLUMNS, [_check(record, found) for found in analysis.results],
              "checks"),
        element("ul", why, class_="why") if why else None,
        element("p", "In the charts, the line is the value, the band its confidence, and the dashed line the limit.",
                class_="hint"),
    ]  # fmt: skip


def _check(record: Record, result: MetricResult) -> Sequence[Content]:
    return (
        result.name, number(result.value), number(result.limit), interval(result.lower, result.upper), result.samples,
        marked(VERDICTS[result.verdict], result.verdict.value),
        check_chart(result.name, record.series.get(result.name, ()), result.limit),
    )  # fmt: skip


def _timeline(record: Record, now: float) -> Html:
    if not record.events:
        return element("p", "Nothing has happened since the operator started.", class_="hint")
    items = [
        element("li", element("p", element("strong", event.kind), " ", clock(event.at, now), _by(event.moved_by)),
                element("p", event.message))
        for event in record.events
    ]  # fmt: skip
    newest, earlier = items[:_EVENTS_SHOWN], items[_EVENTS_SHOWN:]
    rest = element("details", element("summary", f"{len(earlier)} earlier events", id="earlier-summary"),
                   element("ol", earlier, class_="timeline"), id="earlier")  # fmt: skip
    return join(element("ol", newest, class_="timeline"), rest if earlier else None)


def _by(who: str | None) -> str | None:
    return None if who in {None, "operator"} else f", {who}"


def _history(state: State, now: float) -> Content:
    if not state.history:
        return element("p", "No rollout has ended yet.", class_="hint")
    rows = [
        (f"Version {entry.version}", marked(OUTCOMES.get(entry.outcome, UNKNOWN), entry.outcome),
         entry.reason if entry.reason != entry.outcome else None, clock(entry.at, now))
        for entry in state.history
    ]  # fmt: skip
    failures = [
        element("li", element("strong", f"Version {failed.version}"), f" {failed.reason}: {failed.message}")
        for failed in state.failed_versions
    ]
    return [
        table("The last ten rollouts, newest first", ("Version", "Outcome", "Reason", "Ended"), rows),
        [element("h3", "Not tried again until asked"), element("ul", failures, class_="why")] if failures else None,
    ]
