"""The sections about distributions: features, score, groups and reasons."""

from __future__ import annotations

from html import escape

from decisions.drift.distance import ShareChange
from decisions.drift.document import Characteristic, DriftReport, Group
from decisions.drift.findings import LEAST_IMPACT_RATIO
from decisions.drift.page import plots
from decisions.drift.page.parts import percent, pill, table

_ORDER = ("drifted", "unclear", "steady")


def overview(report: DriftReport) -> str:
    """Return a line for each distribution."""
    rows = [
        (
            f"<b>{escape(of.name)}</b>", pill(of.verdict),
            plots.bar(of.distance.psi.value, of.distance.psi.lower, of.distance.psi.upper, report.limits.psi),
            f"{of.distance.psi.value:.3f}", f"{of.distance.jensen_shannon.value:.3f}", _change(of.missing),
            _change(of.outside), f"{of.since}" if of.since else "",
        )
        for of in _judged(report)
    ]  # fmt: skip
    columns = ("", "Verdict", "PSI, its bounds and the limit", "#PSI", "#JS (bits)", "#Missing", "#Outside of training",
               "Since")  # fmt: skip
    return f'<h2 id="overview">Overview</h2><div class="card">{table(columns, rows)}</div>'


def details(report: DriftReport) -> str:
    """Return the distributions, those that drifted first."""
    key = f'<p class="muted"><span class="key" style="--c:{plots.NOW}">these days</span>' \
          f'<span class="key" style="--c:{plots.REFERENCE}">compared with</span></p>'  # fmt: skip
    cards = "".join(_detail(of, report.limits.psi) for of in _judged(report))
    return f'<h2 id="details">Distributions</h2>{key}<div class="grid-2">{cards}</div>'


def segments(report: DriftReport) -> str:
    """Return approval rates, adverse-impact ratios and score drift by group."""
    parts = []
    for segment in report.segments:
        rows = [_group(group) for group in segment.groups]
        ratio = ("#Adverse-impact ratio",) if segment.protected else ()
        columns = ("Group", "#Decisions", "#Share", "#Approved", "#Approved before", *ratio, "#PSI of scores", "")
        shown = [row if segment.protected else (*row[:5], *row[6:]) for row in rows]
        protected = " <small>protected attribute</small>" if segment.protected else ""
        parts.append(f'<div class="card"><h3>{escape(segment.name)}{protected}</h3>{table(columns, shown)}</div>')
    note = f"""<p class="muted">An adverse-impact ratio is a group's approval rate over that of the group that is
approved most; below {LEAST_IMPACT_RATIO} it fails the four-fifths rule. Attributes that applications do not have cannot
be shown.</p>"""
    return f'<h2 id="segments">Groups</h2>{note}{"".join(parts) or "<p>No groups were asked for.</p>"}'


def reasons(report: DriftReport) -> str:
    """Return how often each reason is named."""
    if not report.named_reasons:
        return '<h2 id="reasons">Reasons</h2><div class="card">No decision of the period has reasons.</div>'
    rows = [
        (escape(reason.code), escape(reason.description), percent(reason.share), percent(reason.reference))
        for reason in report.named_reasons
    ]
    columns = ("Reason", "About", "#Named in", "#Before")
    note = (
        "Share of the decisions with reasons that name each one. The verdict is about the reason that is named first."
    )
    return f'<h2 id="reasons">Reasons</h2><div class="card"><p class="muted">{note}</p>{table(columns, rows)}</div>'


def _judged(report: DriftReport) -> list[Characteristic]:
    judged = [of for of in (report.score, *report.features, report.reasons) if of]
    return sorted(judged, key=lambda of: (_ORDER.index(of.verdict), -of.distance.psi.value))


def _detail(of: Characteristic, limit: float) -> str:
    bars = plots.histogram(
        [bin_.label for bin_ in of.bins], [bin_.share for bin_ in of.bins], [bin_.reference for bin_ in of.bins],
        f"{of.name}: shares of these days, and of what they are compared with",
    )  # fmt: skip
    by_day = plots.days([day.psi for day in of.days], limit, f"{of.name}: PSI by day", str(of.days[0].day),
                        str(of.days[-1].day)) if of.days else ""  # fmt: skip
    rows = f"{of.rows:,} values, compared with {of.reference_rows:,}"
    return f"""<div class="card"><div class="head"><h3>{escape(of.name)}</h3>{pill(of.verdict)}</div>
<p class="muted">{escape(of.description)} · {rows}</p>{bars}<p class="muted">PSI by day</p>{by_day}</div>"""


def _group(group: Group) -> tuple[str, ...]:
    ratio = "-" if group.impact_ratio is None else f"{group.impact_ratio:.2f}"
    if group.impact_ratio is not None and group.impact_ratio < LEAST_IMPACT_RATIO:
        ratio = f"<b>{ratio}</b>"
    scores = "too few" if group.scores is None else f"{group.scores.psi.value:.3f}"
    verdict = pill(group.verdict) if group.scores else ""
    return (escape(group.value), f"{group.rows:,}", percent(group.share), percent(group.approval_rate),
            percent(group.reference_approval_rate), ratio, scores, verdict)  # fmt: skip


def _change(of: ShareChange | None) -> str:
    return "" if of is None else f"{of.share:.1%} <small>(was {of.reference:.1%})</small>"
