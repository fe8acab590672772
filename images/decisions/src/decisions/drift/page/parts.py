"""Pieces that several sections are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from html import escape

from decisions.drift.document import DriftReport, Finding
from decisions.drift.ranking import Interval


def pill(word: str) -> str:
    """Return a verdict or a traffic light as a colored word."""
    return f'<span class="pill {escape(word)}">{escape(word)}</span>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML, and columns whose name begins with # are of numbers."""
    classes = [' class="number"' if name.startswith("#") else "" for name in columns]
    head = "".join(f"<th{of}>{escape(name.lstrip('#'))}</th>" for name, of in zip(columns, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{of}>{cell}</td>" for cell, of in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def interval(of: Interval | None, *, percent: bool = False) -> str:
    """Return a figure with its interval."""
    if of is None:
        return "-"
    style = ".2%" if percent else ".3f"
    return f"{of.value:{style}} <small>({of.lower:{style}} - {of.upper:{style}})</small>"


def percent(share: float | None) -> str:
    """Return a share; - for None."""
    return "-" if share is None else f"{share:.1%}"


def day_before(at: datetime) -> date:
    """Return the last day of a period that ends at this midnight."""
    return (at - timedelta(days=1)).date()


def findings(report: DriftReport) -> str:
    """Return what people should know and do."""
    if not report.findings:
        return '<div class="card">Nothing needs to be done.</div>'
    return "".join(_finding(finding) for finding in report.findings)


def _finding(finding: Finding) -> str:
    since = f"<dt>Since when</dt><dd>{finding.since:%B %-d, %Y}</dd>" if finding.since else ""
    return f"""<div class="card finding {finding.severity}"><h3>{escape(finding.subject)}</h3><dl>
<dt>What changed</dt><dd>{escape(finding.what)}</dd>{since}
<dt>How bad</dt><dd>{escape(finding.how_bad)}</dd><dt>What to do</dt><dd>{escape(finding.what_to_do)}</dd></dl></div>"""
