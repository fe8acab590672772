"""A drift report as one HTML file: plain words first, then plots and figures. It asks no other host for anything."""

from __future__ import annotations

from html import escape

from decisions.drift.document import DriftReport
from decisions.drift.page import drift, loans
from decisions.drift.page.parts import day_before, findings, pill
from decisions.drift.page.style import STYLE


def page(report: DriftReport) -> str:
    """Return the page."""
    title = f"Drift report: {report.model}, version {report.version}"
    period = f"{report.since.date()} to {day_before(report.until)}"
    versions = ", ".join(f"{of.version} ({of.decisions:,})" for of in report.versions)
    sections = (drift.overview, drift.details, drift.segments, drift.reasons, loans.performance, loans.calibration,
                loans.vintages, _method)  # fmt: skip
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main>
<h1>{escape(title)} {pill(report.verdict)}</h1>
<p class="muted">{period} · {report.decisions:,} decisions by version {escape(versions)} · made
{report.created_at:%Y-%m-%d %H:%M} UTC</p>
<p class="lead">{escape(report.headline)}</p>
<nav><a href="#overview">Overview</a><a href="#details">Distributions</a><a href="#segments">Groups</a>
<a href="#reasons">Reasons</a><a href="#performance">Performance</a><a href="#method">How to read this</a></nav>
{findings(report)}
{"".join(section(report) for section in sections)}
</main></body></html>
"""


def _method(report: DriftReport) -> str:
    limits = report.limits
    forgotten = f" The inputs of {report.forgotten:,} decisions were forgotten on request and are not counted." \
        if report.forgotten else ""  # fmt: skip
    compared = f"the decisions from {report.compared_since.date()} until the day before the period" \
        if report.compared_since else "nothing, because there are no earlier decisions"  # fmt: skip
    features = "the data that the version learned from" if report.feature_reference == "training" else compared
    rate = f"<li>The version's probabilities are calibrated to a default rate of {report.default_rate:.1%} through " \
           "the cycle. In a good or bad year, realized rates differ from them although nothing is wrong.</li>" \
        if report.default_rate is not None else ""  # fmt: skip
    return f"""<h2 id="method">How to read this</h2><div class="card"><ul>
<li><b>Compared with:</b> features with {features}; the score with the held-out rows of training; reasons and the
groups' scores with {compared}.{forgotten}</li>
<li><b>PSI</b> is 0 for equal distributions; below 0.1 is usually read as small, from 0.25 on as large. The
Jensen-Shannon divergence says the same between 0 and 1 bit.</li>
<li><b>Drifted</b> is what surely is above its limit (PSI {limits.psi:g}; shares of missing or unknown values
{limits.share:.0%} more than before): the lower bound of its distance is. <b>Unclear</b> is what is above it, but could
be by chance with so few decisions.</li>
<li><b>Many comparisons:</b> the {limits.tests} verdicts hold together with {limits.confidence:.0%} confidence
(Bonferroni). Reports of several days are not corrected for one another: of 100 reports in which everything sits
exactly at its limit, {100 * (1 - limits.confidence):.0f} would call a drift.</li>
<li><b>Expected</b> default rate, AUC and Brier score follow from the probabilities of default alone, if those are right
and the applicants of each probability are as before. They cannot show that defaults became more likely at the same
probability: only outcomes can. Intervals are of 95 %.</li>
<li><b>Realized</b> figures are of approved loans that are {report.matured_months} months old at least and were repaid
or defaulted. Nobody knows what rejected applicants would have done.</li>
{rate}
<li><b>Rules</b> (as of July 2026): ongoing monitoring of models is expected by SR 26-2, which replaced SR 11-7 in April
2026. The effects test of Regulation B was removed on July 21, 2026; adverse-impact ratios are reported all the same,
because other laws, states and investors ask for them. Principal reasons must still be given to declined applicants
(Regulation B, 12 CFR 1002.9).</li>
</ul></div>"""
