"""The sections about loans: performance, calibration and vintages."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from decisions.drift.document import DriftReport
from decisions.drift.page import plots
from decisions.drift.page.parts import interval, pill, table
from decisions.drift.ranking import Interval, Performance

# Curves of more months hide one another.
_MOST_CURVES = 12


def performance(report: DriftReport) -> str:
    """Return what is expected and what came true, by month and by version."""
    head = '<h2 id="performance">Performance</h2>'
    if not report.months:
        return f'{head}<div class="card">No loans were approved.</div>'
    key = f"""<p class="muted"><span class="key" style="--c:{plots.NOW}">expected, if the probabilities are right</span>
<span class="key" style="--c:{plots.BAD}">realized, of matured loans</span> · by month of the decision, all versions,
approved loans; with 95 % intervals</p>"""
    return f"""{head}<div class="card">{key}<div class="grid-2"><div><h3>Default rate</h3>
{_by_month(report, "Default rate by month", lambda of: of.default_rate, percent=True)}</div>
<div><h3>AUC</h3>{_by_month(report, "AUC by month", lambda of: of.auc, percent=False)}</div></div></div>
<div class="card">{_new_outcomes(report)}{_versions(report)}</div>"""


def calibration(report: DriftReport) -> str:
    """Return the Jeffreys test of each grade, by version."""
    parts = []
    for of in report.performance:
        if not of.grades:
            continue
        rows = [
            (escape(grade.grade), f"{grade.loans:,}", f"{grade.defaults:,}", f"{grade.assessed:.2%}",
             f"{grade.realized:.2%}", f"{grade.p_value:.3f}",
             pill(grade.light) + (" <small>far fewer than assessed</small>" if grade.too_cautious else ""))
            for grade in of.grades
        ]  # fmt: skip
        columns = ("Grade", "#Loans", "#Defaults", "#Assessed", "#Realized", "#p (Jeffreys)", "Light")
        parts.append(f'<div class="card"><h3>Version {escape(of.version)}</h3>{table(columns, rows)}</div>')
    if not parts:
        return ""
    note = """<p class="muted">Is the default rate of a grade higher than its probabilities say? Yellow: chance alone
would do that in fewer than 5 cases of 100; red: in fewer than 1 (Jeffreys test).</p>"""
    return f"<h2>Calibration by grade</h2>{note}{''.join(parts)}"


def vintages(report: DriftReport) -> str:
    """Return the share of each month's loans that had defaulted after so many months."""
    named = [(f"{month.month:%Y-%m}", month.cumulative) for month in report.months if month.cumulative]
    if not any(any(values) for _, values in named):
        return ""
    note = '<p class="muted">Share of the loans of each month that had defaulted by then. Darker is newer: a dark ' \
           "curve above the pale ones means that newer loans default earlier.</p>"  # fmt: skip
    drawn = plots.curves(named[-_MOST_CURVES:], "Cumulative default rate by months since the decision")
    return f'<h2>Vintages</h2><div class="card">{note}{drawn}</div>'


def _by_month(
    report: DriftReport, title: str, figure: Callable[[Performance], Interval | None], *, percent: bool
) -> str:
    expected: list[plots.Point] = []
    realized: list[plots.Point] = []
    for place, month in enumerate(report.months):
        for points, of in ((expected, month.expected), (realized, month.realized)):
            if of and (found := figure(of)):
                points.append(plots.Point(place, found.value, found.lower, found.upper))
    if not expected:
        return "<p>-</p>"
    places = [f"{month.month:%Y-%m}" for month in report.months]
    return plots.expected_and_realized(places, expected, realized, title, percent=percent)


def _new_outcomes(report: DriftReport) -> str:
    if report.new_outcomes is None:
        return ""
    return f"<p>{report.new_outcomes:,} matured loans have an outcome that version {escape(report.version)} did not " \
           "learn from.</p>"  # fmt: skip


def _versions(report: DriftReport) -> str:
    rows = []
    for of in report.performance:
        for which, found in (
            ("expected, of these days", of.expected),
            ("expected, of matured loans", of.expected_of_realized),
            ("realized, of matured loans", of.realized),
        ):
            if found:
                rows.append((
                    escape(of.version), which, f"{found.loans:,}", interval(found.default_rate, percent=True),
                    interval(found.auc), interval(found.gini), interval(found.ks), interval(found.brier),
                ))  # fmt: skip
    columns = ("Version", "", "#Loans", "#Default rate", "#AUC", "#Gini", "#KS", "#Brier")
    return table(columns, rows)
