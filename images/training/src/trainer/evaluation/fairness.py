"""How decisions affect the groups of each protected attribute."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from trainer.evaluation.chance import Approvals, highest_ratio

# Fewer rows say little: a group approved .6 times as often as another is refused in two of three samples with 60 rows,
# but only in one of three with 20 (benchmarks/training/gates.py). The best-treated group needs as many.
MINIMUM_GROUP_ROWS = 50


@dataclass(frozen=True)
class GroupResult:
    """One group of one protected attribute.

    Attributes:
        attribute: The protected attribute.
        group: Its value.
        rows: Test rows in the group.
        roc_auc: AUC within the group, or None if the group has only one class.
        default_rate: Observed default rate.
        approval_rate: Share of rows below the decision threshold.
        best_group: The attribute's best-treated group: the highest approval rate among the groups with 50 rows or more,
            or the largest group if none has as many.
        adverse_impact_ratio: Approval rate divided by that of the best-treated group (the four-fifths rule compares it
            with .8).
        highest_ratio: The upper 95 % confidence bound of that ratio, which holds for all groups of all attributes
            together; None for the best-treated group, and if that group has no approvals.
    """

    attribute: str
    group: str
    rows: int
    roc_auc: float | None
    default_rate: float
    approval_rate: float
    best_group: str
    adverse_impact_ratio: float
    highest_ratio: float | None

    @property
    def is_small(self) -> bool:
        """Whether it has too few rows for an adverse-impact ratio to say much."""
        return self.rows < MINIMUM_GROUP_ROWS

    @property
    def approvals(self) -> Approvals:
        """How many of its rows were approved."""
        return Approvals(round(self.approval_rate * self.rows), self.rows)


def assess_groups(
    groups: Mapping[str, pd.Series],
    target: npt.NDArray[np.float64],
    probability: npt.NDArray[np.float64],
    *,
    threshold: float,
) -> tuple[GroupResult, ...]:
    """Measure each group of each attribute; all arrays have the shape [N] and the same row order."""
    approved = probability < threshold
    members = {
        (attribute, str(group)): (values == group).to_numpy()
        for attribute, values in groups.items()
        for group in sorted(values.unique())
    }
    approvals = {key: Approvals(int(approved[rows].sum()), int(rows.sum())) for key, rows in members.items()}
    best = {attribute: _best_treated(attribute, approvals) for attribute in groups}
    compared = [key for key in members if key[1] != best[key[0]] and approvals[key[0], best[key[0]]].approved]
    results = []
    for key, rows in members.items():
        attribute, group = key
        own, highest = approvals[key], approvals[attribute, best[attribute]]
        is_compared = key in compared
        results.append(
            GroupResult(
                attribute=attribute,
                group=group,
                rows=own.rows,
                roc_auc=_auc(target[rows], probability[rows]),
                default_rate=float(target[rows].mean()),
                approval_rate=own.rate,
                best_group=best[attribute],
                # If no group has approvals, all are treated alike.
                adverse_impact_ratio=own.rate / highest.rate if is_compared else 1.0,
                highest_ratio=highest_ratio(own, highest, comparisons=len(compared)) if is_compared else None,
            )
        )
    return tuple(results)


def _best_treated(attribute: str, approvals: Mapping[tuple[str, str], Approvals]) -> str:
    found = {group: own for (of, group), own in approvals.items() if of == attribute}
    large = [group for group, own in found.items() if own.rows >= MINIMUM_GROUP_ROWS]
    return max(large, key=lambda group: found[group].rate) if large else max(found, key=lambda group: found[group].rows)


def _auc(target: npt.NDArray[np.float64], probability: npt.NDArray[np.float64]) -> float | None:
    return float(roc_auc_score(target, probability)) if 0 < target.mean() < 1 else None
