"""How decisions affect the groups of each protected attribute."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

# With fewer rows, an approval rate reflects chance more than the model.
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
        adverse_impact_ratio: Approval rate divided by that of the attribute's best-treated group (the four-fifths rule
            compares it with .8), or None if the group is too small.
    """

    attribute: str
    group: str
    rows: int
    roc_auc: float | None
    default_rate: float
    approval_rate: float
    adverse_impact_ratio: float | None


def assess_groups(
    groups: Mapping[str, pd.Series],
    target: npt.NDArray[np.float64],
    probability: npt.NDArray[np.float64],
    *,
    threshold: float,
) -> tuple[GroupResult, ...]:
    """Measure each group of each attribute; all arrays have the shape [N] and the same row order."""
    results = []
    for attribute, values in groups.items():
        members = {str(group): (values == group).to_numpy() for group in sorted(values.unique())}
        approved = probability < threshold
        rates = {group: float(approved[rows].mean()) for group, rows in members.items()}
        judged = [rates[group] for group, rows in members.items() if rows.sum() >= MINIMUM_GROUP_ROWS]
        best = max(judged, default=0.0)
        for group, rows in members.items():
            large = int(rows.sum()) >= MINIMUM_GROUP_ROWS
            both_classes = 0 < target[rows].mean() < 1
            results.append(
                GroupResult(
                    attribute=attribute,
                    group=group,
                    rows=int(rows.sum()),
                    roc_auc=float(roc_auc_score(target[rows], probability[rows])) if both_classes else None,
                    default_rate=float(target[rows].mean()),
                    approval_rate=rates[group],
                    adverse_impact_ratio=_ratio(rates[group], best) if large else None,
                )
            )
    return tuple(results)


def _ratio(rate: float, best: float) -> float:
    # If no group has approvals, all are treated alike.
    return rate / best if best else 1.0


def minimum_adverse_impact_ratio(results: tuple[GroupResult, ...]) -> float:
    """Return the lowest ratio of all groups that are large enough; 1 if there are none."""
    return min((r.adverse_impact_ratio for r in results if r.adverse_impact_ratio is not None), default=1.0)
