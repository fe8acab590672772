"""What a report means, in words: what changed, since when, how bad it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from decisions.drift.days import Days
from decisions.drift.document import Characteristic, Finding, Limits, Month, Segment, Verdict, VersionPerformance
from decisions.drift.ranking import Interval, Performance

# The usual reading of PSI (Siddiqi, "Credit Risk Scorecards", 2006): from here on a shift is moderate, and large.
MODERATE_PSI, LARGE_PSI = 0.1, 0.25
# Of the four-fifths rule.
LEAST_IMPACT_RATIO = 0.8
_LEAST_BIN_CHANGE = 0.005


def headline(
    verdict: Verdict, decisions: int, window: Days, judged: Sequence[Characteristic], segments: Sequence[Segment]
) -> str:
    """Return all of it in one sentence."""
    last = window.until.toordinal() - 1
    period = f"{decisions:,} decisions from {window.since} to {window.since.fromordinal(last)}"
    groups = [f"scores of {segment.name} {group.value}" for segment in segments for group in segment.groups
              if group.verdict == verdict]  # fmt: skip
    names = ", ".join([*(of.name for of in judged if of.verdict == verdict), *groups])
    if not judged:
        return f"{period}: there is nothing to compare them with."
    match verdict:
        case "drifted":
            return f"{period}: applicants or scores are no longer what they were: {names}."
        case "unclear":
            return f"{period}: no drift is certain; more decisions are needed to tell about {names}."
        case "steady":
            return f"{period}: applicants and scores are as they were."
        case _:
            assert_never(verdict)


def find(
    limits: Limits,
    judged: Sequence[Characteristic],
    segments: Sequence[Segment],
    versions: Sequence[VersionPerformance],
    months: Sequence[Month],
) -> list[Finding]:
    """Return what people should know, warnings first."""
    found = [*_of_distributions(judged, limits), *_of_groups(segments), *_of_impact(segments),
             *_of_performance(versions), *_of_months(months)]  # fmt: skip
    return sorted(found, key=lambda finding: finding.severity != "warning")


def _of_distributions(judged: Sequence[Characteristic], limits: Limits) -> Iterator[Finding]:
    for of in judged:
        if of.verdict != "drifted":
            continue
        shares = [
            f"{what} {_percent(change.share)} instead of {_percent(change.reference)}"
            for what, change in (("missing:", of.missing), ("outside of what training saw:", of.outside))
            if change and change.lower > 0
        ]
        yield Finding(
            severity="warning", subject=of.name, what="; ".join([_what_changed(of), *shares]), since=of.since,
            how_bad=_how_bad(of, limits),
            what_to_do=_remedy(of),
        )  # fmt: skip


def _how_bad(of: Characteristic, limits: Limits) -> str:
    distance = of.distance.psi
    if distance.lower <= limits.psi:
        changes = [change for change in (of.missing, of.outside) if change and change.lower > limits.share]
        rises = ", ".join(
            f"{100 * (change.share - change.reference):.1f} percentage points more, {100 * change.lower:.1f} at least"
            for change in changes
        )
        return f"{rises}; PSI {distance.value:.2f}"
    strength = "large" if distance.value >= LARGE_PSI else "moderate" if distance.value >= MODERATE_PSI else "small"
    return f"PSI {distance.value:.2f}, {distance.lower:.2f} at least: a {strength} shift"


def _what_changed(of: Characteristic) -> str:
    """Name the bins that gained and lost most."""
    changes = sorted(of.bins, key=lambda bin_: bin_.share - bin_.reference)
    parts = [
        f"{verb} {bin_.label} ({_percent(bin_.reference)} to {_percent(bin_.share)})"
        for verb, bin_ in (("more", changes[-1]), ("fewer", changes[0]))
        if abs(bin_.share - bin_.reference) >= _LEAST_BIN_CHANGE
    ]
    return f"{of.description}: {', '.join(parts) or 'small changes in many places'}"


def _remedy(of: Characteristic) -> str:
    if of.name == "reasons":
        return "See which features moved; applicants are now declined for other reasons than before."
    if of.name == "score":
        return ("See which features moved. If applicants really changed, train on recent decisions; but first compare "
                "expected and realized default rates.")  # fmt: skip
    if of.missing and of.missing.lower > 0:
        return "Ask who delivers the field: a value that is suddenly missing is mostly a fault of a source or a form."
    if of.outside and of.outside.lower > 0:
        return "Check the unit and the source of the new values. If they are right, train with data that has them."
    return "Check for a changed form, source or campaign. If applicants really changed, train on recent decisions."


def _of_groups(segments: Sequence[Segment]) -> Iterator[Finding]:
    for segment in segments:
        for group in segment.groups:
            if group.verdict == "drifted" and group.scores:
                before = group.reference_approval_rate or 0.0
                yield Finding(
                    severity="warning", subject=f"{segment.name} {group.value}",
                    what=f"Scores of this group moved; {_percent(before)} of it were approved before, "
                         f"{_percent(group.approval_rate)} now",
                    since=None, how_bad=f"PSI {group.scores.psi.value:.2f}",
                    what_to_do="See whether the group's applications changed, or the way in which they reach you.",
                )  # fmt: skip


def _of_impact(segments: Sequence[Segment]) -> Iterator[Finding]:
    for segment in segments:
        for group in segment.groups:
            if group.impact_ratio is not None and group.impact_ratio < LEAST_IMPACT_RATIO:
                yield Finding(
                    severity="warning", subject=f"{segment.name} {group.value}",
                    what=f"Approved in {_percent(group.approval_rate)} of cases, {group.impact_ratio:.2f} times as "
                         "often as the group that is approved most",
                    since=None, how_bad=f"below the four-fifths rule ({LEAST_IMPACT_RATIO})",
                    what_to_do="Have it reviewed: is there a business reason, and is there a model that is as good "
                               "with less of a difference?",
                )  # fmt: skip


def _of_performance(versions: Sequence[VersionPerformance]) -> Iterator[Finding]:
    for of in versions:
        if of.realized and of.expected_of_realized:
            yield from _disappointments(f"version {of.version}", of.realized, of.expected_of_realized)
        red = [grade for grade in of.grades if grade.light == "red"]
        if red:
            yield Finding(
                severity="warning", subject=f"version {of.version}", since=None,
                what="More defaults than assessed in " + ", ".join(
                    f"{grade.grade} ({_percent(grade.realized)} instead of {_percent(grade.assessed)})" for grade in red
                ),
                how_bad="red: chance alone would do that in less than 1 case of 100",
                what_to_do="Calibrate again on matured loans (train), and price new loans with the realized rates "
                           "until then.",
            )  # fmt: skip


def _disappointments(subject: str, realized: Performance, expected: Performance) -> Iterator[Finding]:
    """Yield what is worse than expected beyond chance: both have intervals, which must not overlap."""
    if realized.auc and expected.auc and realized.auc.upper < expected.auc.lower:
        yield Finding(
            severity="warning", subject=subject, since=None,
            what=f"It ranks loans worse than it should: AUC {_figure(realized.auc)} instead of {_figure(expected.auc)}",
            how_bad="the 95 % intervals do not overlap",
            what_to_do="Train on recent outcomes, and let the gates compare the result with this version.",
        )  # fmt: skip
    if realized.default_rate.lower > expected.default_rate.upper:
        yield Finding(
            severity="warning", subject=subject, since=None,
            what=f"More loans default than it says: {_percent(realized.default_rate.value)} instead of "
                 f"{_percent(expected.default_rate.value)}",
            how_bad="the 95 % intervals do not overlap",
            what_to_do="Calibrate again on recent outcomes (train).",
        )  # fmt: skip


def _of_months(months: Sequence[Month]) -> Iterator[Finding]:
    if months and not any(month.realized for month in months):
        yield Finding(
            severity="notice", subject="outcomes", since=None,
            what="No loan with an outcome has matured: only expectations are shown, which hold if the probabilities "
                 "are right and approved applicants stay alike",
            how_bad="not known", what_to_do="Report outcomes as they become known (docs/decisions.md).",
        )  # fmt: skip


def _figure(of: Interval) -> str:
    return f"{of.value:.3f} ({of.lower:.3f} - {of.upper:.3f})"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 or share <= 0 else f"{share:.2%}"
