"""Why a version was rolled back, or why nothing moves, in words."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_promotion.cluster.promotions import ModelPromotion
from kubectl_promotion.errors import NOT_FOUND, CommandError
from kubectl_promotion.words.experiment import last_report, points_of
from promoter.api.spec import Spec
from promoter.api.status import RESTING, FailedVersion, HistoryEntry, Phase, State, Verdict
from promoter.words.approvals import approval_lines
from promoter.words.numbers import interval, number
from promoter.words.outlook import outlook
from promoter.words.reasons import PROBLEMS, ROLLBACKS, STOPS, Meaning
from promoter.words.times import duration, local_time

# During a rollback there is no harm to clients, and people ask that first.
_CLIENTS = (
    "no request failed because of it: where the canary had no answer, a stable pod answered, and now version {stable} "
    "answers everybody"
)


@dataclass(frozen=True)
class Explanation:
    """An explanation: one sentence, then points with a title each.

    Attributes:
        subject: The version that it is about, None if it is about the ModelPromotion as a whole.
    """

    summary: str
    points: tuple[tuple[str, str], ...] = ()
    subject: str | None = None

    def to_document(self) -> dict[str, object]:
        """Return the explanation for programs."""
        points = [{"title": title, "text": text} for title, text in self.points]
        return {"version": self.subject, "summary": self.summary, "points": points}


def explain(promotion: ModelPromotion, version: str | None, now: float) -> Explanation:
    """Explain what became of a version, or without one, what the ModelPromotion is doing and why.

    Args:
        promotion: The ModelPromotion.
        version: A version of its model.
        now: Seconds since 1970.

    Raises:
        CommandError: nothing is known about the version.
    """
    state = promotion.state
    if version is None and state.phase in {Phase.FAILED, Phase.ROLLING_BACK}:
        version = state.canary_version if state.phase == Phase.ROLLING_BACK else state.desired_version
    if version is None and state.phase == Phase.IDLE and last_report(state, state.completed_version):
        version = state.completed_version
    if version is None or (version == state.canary_version and state.phase not in RESTING | {Phase.ROLLING_BACK}):
        return _at_present(promotion, now)
    if failed := state.failed(version):
        return _rolled_back(promotion, failed, now)
    ended = next((entry for entry in state.history if entry.version == version), None)
    if ended is not None:
        return _ended(state, ended, now)
    if version == state.stable_version:
        return Explanation(f"Version {version} is stable; its rollout is no longer remembered.", (), version)
    known = sorted({entry.version for entry in state.history} | {entry.version for entry in state.failed_versions})
    raise CommandError(
        f"nothing is known about version {version}; known are {', '.join(known) or 'none'}, from the last ten rollouts",
        NOT_FOUND,
    )


def _rolled_back(promotion: ModelPromotion, failed: FailedVersion, now: float) -> Explanation:
    state = promotion.state
    meaning = ROLLBACKS.get(failed.reason, Meaning(f"{failed.reason}, which this plugin does not know", "see the docs"))
    points = [
        ("reason", f"{failed.reason}: {failed.message}"),
        *_decisive_checks(promotion, failed),
        ("for clients", _CLIENTS.format(stable=state.stable_version)),
        ("what to do", meaning.advice),
        ("until then", _until_then(promotion.spec, state, failed.version)),
    ]
    summary = f"Version {failed.version} was rolled back {_ago(failed.at, now)}: {meaning.what}."
    return Explanation(summary, tuple(points), failed.version)


def _decisive_checks(promotion: ModelPromotion, failed: FailedVersion) -> list[tuple[str, str]]:
    """Return the checks that led to a rollback, which are in the status until the next rollout begins."""
    state = promotion.state
    last = state.history[0].version if state.history else None
    if state.analysis is None or last != failed.version or not failed.reason.startswith("Analysis"):
        return []
    lines = []
    for check in promotion.checks:
        result = check.result
        if result.verdict in {Verdict.FAILED, Verdict.ERROR}:
            bounds = interval(check.lower, check.upper)
            confidence = f" (with confidence {bounds})" if bounds else ""
            value = "could not be measured" if result.value is None else f"was {number(result.value)}{confidence}"
            lines.append(f"{result.name} {value}; the limit is {result.limit:g}, over {result.samples} answers")
    return [("measured", "; ".join(lines))] if lines else []


def _until_then(spec: Spec | None, state: State, version: str) -> str:
    if state.phase == Phase.FAILED and state.desired_version == version:
        kind, value = spec.model.pointer if spec else ("pointer", "")
        return (f"version {state.stable_version} serves; the {kind} {value} still names version {version}, which is "
                "not tried again until somebody asks (kubectl promotion retry) or the pointer moves")  # fmt: skip
    return f"version {state.stable_version} serves; version {version} is not tried again until somebody asks"


def _ended(state: State, ended: HistoryEntry, now: float) -> Explanation:
    if ended.report is not None:
        points = points_of(ended.version, ended.report, ended.at)
        summary = f"The experiment with version {ended.version} ended {_ago(ended.at, now)}; it promotes nothing."
        return Explanation(summary, tuple(points), ended.version)
    if ended.outcome == "Promoted":
        approved = (("approved by", ", ".join(ended.approved_by)),) if ended.approved_by else ()
        stable = "it is stable" if ended.version == state.stable_version else f"version {state.stable_version} is now"
        summary = f"Version {ended.version} was promoted {_ago(ended.at, now)}; {stable}."
        return Explanation(summary, approved, ended.version)
    meaning = (STOPS | ROLLBACKS).get(ended.reason, Meaning(ended.reason, "see the Events"))
    outcome = "was stopped" if ended.outcome == "Stopped" else "ended in a rollback"
    advice = (("what to do", meaning.advice),)
    summary = f"The rollout of version {ended.version} {outcome} {_ago(ended.at, now)}: {meaning.what}."
    return Explanation(summary, advice, ended.version)


def _at_present(promotion: ModelPromotion, now: float) -> Explanation:
    state = promotion.state
    points = [("now", state.message or f"phase {state.phase}")]
    if state.phase not in RESTING and (approvals := approval_lines(promotion.spec, state, now)):
        points.append(("approvals", "; ".join(approvals)))
    degraded = state.condition("Degraded")
    if degraded and degraded.status == "True":
        meaning = PROBLEMS.get(degraded.reason) or ROLLBACKS.get(degraded.reason)
        text = f"{meaning.what} ({degraded.reason}): {degraded.message}" if meaning else degraded.message
        points.append(("problem", text))
        if meaning:
            points.append(("what to do", meaning.advice))
    drifted = state.condition("Drifted")
    if drifted and drifted.status == "True":
        points += [("drift", drifted.message), ("what to do", PROBLEMS["DriftFound"].advice)]
    if retraining := state.condition("Retraining"):
        points.append(("retraining", f"{retraining.message} ({retraining.reason})"))
    points.append(("next", "; ".join(outlook(promotion.spec, state, now))))
    return Explanation(_present_summary(promotion), tuple(points), state.canary_version)


def _present_summary(promotion: ModelPromotion) -> str:
    state = promotion.state
    if promotion.spec is None:
        return f"Nothing is rolled out: {promotion.parsed_spec}."
    if state.phase in RESTING:
        served = f"version {state.stable_version} is stable" if state.stable_version else "no version is served yet"
        return f"No rollout is in progress, and {served}."
    return (f"Version {state.canary_version} is being rolled out and has {state.weight} % of the applicants; "
            f"version {state.stable_version or 'none'} is stable.")  # fmt: skip


def _ago(at: float, now: float) -> str:
    return f"{duration(now - at)} ago ({local_time(at)})"
