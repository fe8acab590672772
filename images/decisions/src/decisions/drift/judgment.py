"""Which distributions drifted: verdicts that hold together, however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from decisions.drift.bins import FeatureBins
from decisions.drift.contract import Categorical, Numeric
from decisions.drift.days import Days
from decisions.drift.distance import Comparison, ShareChange, compare, expected_by_chance, psi, share_change
from decisions.drift.document import Bin, Characteristic, Day, Group, Segment, Verdict
from decisions.drift.tally import GroupCounts, total

Counts = npt.NDArray[np.float64]
# Fewer than that say nothing about a group.
LEAST_ROWS = 50
# Of clients: the others have a few decisions each.
MOST_GROUPS = 12
_RANK: dict[Verdict, int] = {"steady": 0, "unclear": 1, "drifted": 2}


@dataclass(frozen=True)
class Judge:
    """The limits, and with which confidence each of the bounds is asked for.

    Attributes:
        psi: The limit of PSI.
        share: By how much shares of missing or unknown values may rise.
        confidence: Of one bound: Bonferroni's share of what all together may be wrong.
    """

    psi: float
    share: float
    confidence: float

    @classmethod
    def of(cls, psi: float, share: float, confidence: float, tests: int) -> Judge:
        """Return the judge of so many tests, who is right about all of them with this confidence."""
        return cls(psi, share, 1 - (1 - confidence) / max(tests, 1))

    def distribution(self, counts: Counts, reference: Counts) -> tuple[Comparison, Verdict]:
        """Compare the counts of bins with the reference's, both [bins] and not all 0."""
        found = compare(counts, reference, self.confidence)
        return found, _verdict(found.psi.value, found.psi.lower, self.psi)

    def change(self, count: float, rows: float, reference: float, reference_rows: float) -> tuple[ShareChange, Verdict]:
        """Compare how many of the rows have a property."""
        found = share_change(count, rows, reference, reference_rows, self.confidence)
        return found, _verdict(found.share - found.reference, found.lower, self.share)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict; steady if there are none."""
    return max(verdicts, key=_RANK.__getitem__, default="steady")


def tests_of(features: Sequence[FeatureBins], others: int, groups: int) -> int:
    """Return how many bounds are computed: three for each feature, one for each other distribution and group."""
    return 3 * len(features) + others + groups


def judge_feature(
    judge: Judge, bins: FeatureBins, by_day: Mapping[date, Counts], window: Days, reference: Counts
) -> Characteristic | None:
    """Judge a feature; None if there is nothing to compare.

    Args:
        judge: With the limits.
        bins: Of the feature.
        by_day: The counts of all days, each [bins.count].
        window: The days that are judged.
        reference: The counts that they are compared with, [bins.count].
    """
    counts = total(by_day, window, bins.count)
    if not counts.sum() or not reference.sum():
        return None
    rows, reference_rows = float(counts.sum()), float(reference.sum())
    missing, of_missing = judge.change(counts[0], rows, reference[0], reference_rows)
    outside, of_outside = judge.change(bins.outside(counts), rows, bins.outside(reference), reference_rows)
    feature = bins.feature
    found = judge_distribution(
        judge, feature.name, _description(feature), bins.labels, {day: bins.compared(of) for day, of in by_day.items()},
        window, bins.compared(reference),
    )  # fmt: skip
    assert found  # noqa: S101 - there is something to compare
    verdict = worst((found.verdict, of_missing, of_outside))
    risen = {
        day for day, of in by_day.items() if of.sum() and judge.share < max(
            of[0] / of.sum() - missing.reference, bins.outside(of) / of.sum() - outside.reference
        )
    }  # fmt: skip
    return found.model_copy(update={
        "protected": feature.protected, "verdict": verdict, "missing": missing, "outside": outside,
        "since": _since(found.days, judge.psi, risen) if verdict == "drifted" else None,
    })  # fmt: skip


def judge_distribution(
    judge: Judge,
    name: str,
    description: str,
    labels: Sequence[str],
    by_day: Mapping[date, Counts],
    window: Days,
    reference: Counts,
) -> Characteristic | None:
    """Judge a distribution over bins; None if there is nothing to compare.

    Args:
        judge: With the limits.
        name: Of what is distributed.
        description: For people.
        labels: Of the bins.
        by_day: The counts of all days, each [bins].
        window: The days that are judged.
        reference: The counts that they are compared with, [bins].
    """
    counts = total(by_day, window, len(labels))
    if not counts.sum() or not reference.sum():
        return None
    distance, verdict = judge.distribution(counts, reference)
    days = [
        Day(day=day, rows=round(of.sum()), psi=max(0.0, float(psi(of, reference)) - expected_by_chance(of, reference)))
        for day, of in sorted(by_day.items()) if of.sum()
    ]  # fmt: skip
    ours, theirs = counts / counts.sum(), reference / reference.sum()
    return Characteristic(
        name=name, description=description, protected=False, verdict=verdict, rows=round(counts.sum()),
        reference_rows=round(reference.sum()), distance=distance, missing=None, outside=None,
        since=_since(days, judge.psi) if verdict == "drifted" else None,
        bins=[Bin(label=label, share=of, reference=than)
              for label, of, than in zip(labels, ours.tolist(), theirs.tolist(), strict=True)],
        days=days,
    )  # fmt: skip


def compared_groups(now: Mapping[int | str, GroupCounts], then: Mapping[int | str, GroupCounts]) -> int:
    """Return how many groups of a segment have enough decisions in both periods to be judged."""
    return sum(_is_judged(now[key], then.get(key)) for key in _largest(now))


def judge_segment(
    judge: Judge,
    name: str,
    bins: FeatureBins | None,
    now: Mapping[int | str, GroupCounts],
    then: Mapping[int | str, GroupCounts],
) -> Segment:
    """Compare each group's scores with those of an earlier period, and its approval rate with the other groups'.

    Args:
        judge: With the limits.
        name: Of the segment.
        bins: Of the feature that divides it; None for clients.
        now: The groups.
        then: The groups of the earlier period.
    """
    protected = bins is not None and bins.feature.protected
    rows = sum(group.rows for group in now.values())
    rates = {key: group.approved / group.rows for key, group in now.items() if group.rows >= LEAST_ROWS}
    best = max(rates.values(), default=0.0)
    groups = []
    for key in _largest(now):
        group, before = now[key], then.get(key)
        distance, verdict = judge.distribution(group.scores, before.scores) if before and _is_judged(group, before) \
            else (None, "steady")  # fmt: skip
        groups.append(Group(
            value=key if isinstance(key, str) else _value_labels(bins)[key], rows=round(group.rows),
            share=group.rows / rows, approval_rate=group.approved / group.rows,
            impact_ratio=rates[key] / best if protected and key in rates and best else None,
            reference_rows=round(before.rows) if before else 0,
            reference_approval_rate=before.approved / before.rows if before else None, scores=distance, verdict=verdict,
        ))  # fmt: skip
    return Segment(name=name, protected=protected, groups=groups)


def _verdict(value: float, lower: float, limit: float) -> Verdict:
    return "drifted" if lower > limit else "unclear" if value > limit else "steady"


def _since(days: Sequence[Day], limit: float, risen: Collection[date] = ()) -> date | None:
    """Return the first of the last days without a break whose PSI is above the limit, or which are among `risen`."""
    first = None
    for day in reversed(days):
        if day.psi <= limit and day.day not in risen:
            break
        first = day.day
    return first


def _is_judged(now: GroupCounts, then: GroupCounts | None) -> bool:
    return then is not None and min(now.rows, then.rows) >= LEAST_ROWS


def _largest(groups: Mapping[int | str, GroupCounts]) -> list[int | str]:
    """Return the keys of the largest groups; of a feature in the order of its bins."""
    largest = sorted(groups, key=lambda key: groups[key].rows, reverse=True)[:MOST_GROUPS]
    return sorted(largest, key=lambda key: (isinstance(key, str), key if isinstance(key, int) else 0))


def _value_labels(bins: FeatureBins | None) -> list[str]:
    """Return what people call each of a feature's bins; the bins outside of the training data's range among them."""
    if bins is None:
        return []
    if isinstance(bins.feature, Categorical):
        return bins.labels
    return ["(missing)", "(below the training data)", *bins.labels[1:], "(above the training data)"]


def _description(feature: Numeric | Categorical) -> str:
    unit = f" ({feature.unit})" if isinstance(feature, Numeric) and feature.unit else ""
    return f"{feature.description or feature.name}{unit}"
