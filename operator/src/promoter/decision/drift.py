"""The newest drift report in the status, and the condition Drifted."""

from __future__ import annotations

from typing import Literal

from promoter.api.loop import DriftState
from promoter.api.status import State
from promoter.api.timestamps import to_whole_seconds_text
from promoter.decision.draft import Draft
from promoter.decision.observation import DriftView, Observation

# Reports are made daily about whole days, and one Job may fail.
REPORT_VALID_SECONDS = 3 * 86400.0
_HEADLINE_LENGTH = 500
Status = Literal["True", "False", "Unknown"]
Row = tuple[str, Status, str, str]
_BY_VERDICT: dict[str, tuple[Status, str]] = {
    "drifted": ("True", "DriftFound"), "unclear": ("Unknown", "Unclear"), "steady": ("False", "Steady"),
}  # fmt: skip


def settle_drift(draft: Draft) -> None:
    """Note the newest report, and since when reports have found drift."""
    seen = draft.observed.drift
    if seen is None:
        draft.update(drift=None)
    elif not seen.error:
        draft.update(drift=_noted(draft.state.drift, seen))


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


def drifted_for(state: State, now: float) -> float | None:
    """Return for how many seconds reports have said that the stable version's applicants drifted; None if not."""
    known = state.drift
    if known is None or known.drifted_since is None or known.version != state.stable_version:
        return None
    return known.until - known.drifted_since if now - known.until <= REPORT_VALID_SECONDS else None


def _noted(known: DriftState | None, seen: DriftView) -> DriftState | None:
    report = seen.report
    if report is None:
        return None
    since = None
    if report.verdict == "drifted":
        # A report about another version, or one that came after a gap, begins anew.
        goes_on = known and known.version == report.version and report.until - known.until <= REPORT_VALID_SECONDS
        since = (known.drifted_since if known and goes_on else None) or report.until
    return DriftState(
        version=report.version, until=report.until, created_at=report.created_at, verdict=report.verdict,
        headline=report.headline[:_HEADLINE_LENGTH], drifted_since=since,
    )  # fmt: skip
