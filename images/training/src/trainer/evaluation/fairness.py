"""How decisions fall on the groups of each protected attribute."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

# Approval rates of fewer rows say more about chance than about the model.
MINIMUM_GROUP_ROWS = 50


@dataclass(frozen=True)
class GroupResult:
    """One group of one protected attribute.

    Attributes:
        attribute: The protected attribute.
        group: Its value.
        rows: Test rows in the group.
        roc_auc: AUC within the group, None where the group holds one class only.
        default_rate: Observed share of defaults.
        approval_rate: Share of rows below the decision threshold.
        adverse_impact_ratio: Approval rate over that of the attribute's most approved group (the four-fifths rule
            compares it with .8); None for groups that are too small to tell.
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
    """Judge each group of each attribute; all arrays have the shape [N] and share their row order."""
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
    # Nobody approved anywhere: all groups are treated alike.
    return rate / best if best else 1.0


def minimum_adverse_impact_ratio(results: tuple[GroupResult, ...]) -> float:
    """The worst ratio over all groups that are large enough; 1 where there is none."""
    return min((r.adverse_impact_ratio for r in results if r.adverse_impact_ratio is not None), default=1.0)
