"""What an experiment found, in words."""

from __future__ import annotations

from collections.abc import Sequence

from promoter.api.status import Arm, ExperimentReport, HistoryEntry, Measurement, State
from promoter.decision.experiment import in_words
from promoter.words.numbers import number
from promoter.words.times import duration

NEXT = (
    "roll the version out by another strategy (spec.strategy: Canary or BlueGreen), repeat the experiment (kubectl "
    "promotion retry), or move the pointer"
)


def last_report(state: State, version: str | None) -> HistoryEntry | None:
    """Return how a version's last rollout ended, if that was an experiment that is complete."""
    ended = next((entry for entry in state.history if entry.version == version), None)
    return ended if ended is not None and ended.report is not None else None


def points_of(version: str, report: ExperimentReport, ended_at: float) -> list[tuple[str, str]]:
    """Return the points of a report, with a title each.

    Args:
        version: The challenger's.
        report: What was found.
        ended_at: When the experiment ended, in seconds since 1970.
    """
    points = [
        ("experiment", f"version {version} answered {report.weight} % of the applicants{_length(report, ended_at)}"),
        ("both arms", f"version {version}: {_arm(report.challenger)}; version {report.champion_version}: "
                      f"{_arm(report.champion)}"),
        ("measured, with a confidence of 95 %", "; ".join(map(in_words, report.measured)) or "nothing was answered"),
    ]  # fmt: skip
    if report.segments:
        points.append(("rise of the decline rate by segment", _segments(report.segments, report.segments_left_out)))
    return [*points, ("what to do", NEXT)]


def _length(report: ExperimentReport, ended_at: float) -> str:
    return f" for {duration(ended_at - report.started_at)}" if report.started_at is not None else ""


def _arm(arm: Arm) -> str:
    declined = f", {arm.decline_rate:.2%} declined" if arm.decline_rate is not None else ""
    p99 = f", p99 {number(arm.p99_milliseconds)} ms" if arm.p99_milliseconds is not None else ""
    return f"{arm.answers} answers{declined}{p99}"


def _segments(segments: Sequence[Measurement], left_out: int) -> str:
    more = [f"{left_out} more changed less"] if left_out else []
    return "; ".join([*map(in_words, segments), *more])
