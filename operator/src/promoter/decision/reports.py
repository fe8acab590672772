"""What the newest drift report and the trainings mean, and the conditions Drifted and Retraining."""

from __future__ import annotations

from typing import Literal

from promoter.api.status import DriftState, State
from promoter.api.timestamps import to_whole_seconds_text
from promoter.decision.observation import DriftView, Observation

# Reports are made daily about whole days, and one Job may fail.
REPORT_VALID_SECONDS = 3 * 86400.0
Status = Literal["True", "False", "Unknown"]
Row = tuple[str, Status, str, str]
_BY_VERDICT: dict[str, tuple[Status, str]] = {
    "drifted": ("True", "DriftFound"), "unclear": ("Unknown", "Unclear"), "steady": ("False", "Steady"),
}  # fmt: skip


def drifted_row(state: State, observed: Observation, now: float) -> Row:
    """Return type, status, reason and message of the condition Drifted."""
    known = state.drift
    if known is None:
        return "Drifted", "Unknown", *_why_no_report(observed.drift)
    if now - known.until > REPORT_VALID_SECONDS:
        ended = to_whole_seconds_text(known.until)
        return "Drifted", "Unknown", "ReportOld", f"the newest drift report ends at {ended}: {known.headline}"
    if known.version != state.stable_version:
        stable = f"version {state.stable_version} is stable" if state.stable_version else "no version is stable"
        message = f"the newest drift report is about version {known.version}, and {stable}"
        return "Drifted", "Unknown", "OtherVersion", message
    return "Drifted", *_BY_VERDICT[known.verdict], known.headline


def _why_no_report(seen: DriftView | None) -> tuple[str, str]:
    if seen is None:
        return "NotWatched", "there is no decisions service to ask for drift reports"
    if seen.error:
        return "Unreachable", seen.error
    return "NoReport", "the decisions service has no drift report about this model"


def valid_report(state: State, now: float) -> DriftState | None:
    """Return the newest report, if it is about the stable version and of these days."""
    known = state.drift
    if known is None or known.version != state.stable_version or now - known.until > REPORT_VALID_SECONDS:
        return None
    return known


def drifted_for(state: State, now: float) -> float | None:
    """Return for how many seconds reports have said that the stable version's applicants drifted; None if not."""
    known = valid_report(state, now)
    return known.until - known.drifted_since if known and known.drifted_since is not None else None


def retraining_row(state: State) -> Row | None:
    """Return type, status, reason and message of the condition Retraining; None if the spec asks for none."""
    known = state.retraining
    if known is None or not known.reason:
        return None
    return "Retraining", "True" if known.running else "False", known.reason, known.message
