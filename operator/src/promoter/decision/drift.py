"""The newest drift report in the status, and since when reports have found drift."""

from __future__ import annotations

from promoter.api.status import DriftState
from promoter.decision.draft import Draft
from promoter.decision.observation import DriftView
from promoter.decision.reports import REPORT_VALID_SECONDS

_HEADLINE_LENGTH = 500


def settle_drift(draft: Draft) -> None:
    """Note the newest report, and since when reports have found drift."""
    seen = draft.observed.drift
    if seen is None:
        draft.update(drift=None)
    elif not seen.error:
        draft.update(drift=_noted(draft.state.drift, seen))


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
        headline=report.headline[:_HEADLINE_LENGTH], drifted_since=since, realized_auc=report.realized_auc,
        expected_auc=report.expected_auc, new_outcomes=report.new_outcomes,
    )  # fmt: skip
