"""The gates between a trained model and Production, as pure functions of measured numbers."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.data.dataset import Floats, Integers
from trainer.data.declaration import FeatureDeclaration
from trainer.errors import BadInputError
from trainer.evaluation.chance import Approvals, ChanceLevels, highest_ratio
from trainer.evaluation.comparison import Comparison
from trainer.evaluation.fairness import MINIMUM_GROUP_ROWS, GroupResult
from trainer.evaluation.metrics import Metrics
from trainer.export.compatibility import incompatibilities
from trainer.export.contract import Contract

PARITY_LIMIT = 1e-5
PARITY_ROWS = 1_000
_RANDOM_EDGE_ROWS = 256
_HIDDEN_SHARE = 0.2


@dataclass(frozen=True)
class GateLimits:
    """Limits that a model must meet.

    Attributes:
        minimum_auc: Minimum ROC AUC on the test rows; above .5, more than a model without skill reaches by chance.
        maximum_ece: Maximum expected calibration error on the test rows, or what a perfectly calibrated model reaches
            by chance on so few.
        minimum_air: Minimum adverse-impact ratio of any protected group (.8 is the four-fifths rule), at the 95 %
            confidence bound.
        margin: Maximum AUC loss against Production, at the 95 % confidence bound.
        allow_contract_change: Whether the model may be incompatible with the Production model.
    """

    minimum_auc: float = 0.65
    maximum_ece: float = 0.03
    minimum_air: float = 0.8
    margin: float = 0.01
    allow_contract_change: bool = False

    def __post_init__(self) -> None:
        limits = {
            "minimum_auc": 0 <= self.minimum_auc <= 1,
            "maximum_ece": 0 <= self.maximum_ece <= 1,
            "minimum_air": 0 <= self.minimum_air <= 1,
            "margin": 0 <= self.margin <= 1,
        }
        if wrong := [f"{name}={getattr(self, name)}" for name, fine in limits.items() if not fine]:
            raise BadInputError(f"gate limits must be between 0 and 1: {', '.join(wrong)}")


@dataclass(frozen=True)
class Gate:
    """One gate's verdict.

    Attributes:
        name: The gate.
        passed: Whether the model passed.
        value: The measured value, or None if it could not be measured (which never passes).
        limit: The limit for the value.
        detail: Explanation for people.
    """

    name: str
    passed: bool
    value: float | None
    limit: float
    detail: str

    def __str__(self) -> str:
        measured = "not measured" if self.value is None else f"{self.value:.6g}"
        return f"{self.name} {'passed' if self.passed else 'REFUSED'}: {measured}, limit {self.limit:g} ({self.detail})"


def at_least(name: str, value: float, limit: float, detail: str) -> Gate:
    """Pass if the value is at least the limit; NaN never passes."""
    return Gate(name, value >= limit, _finite(value), limit, detail)


def at_most(name: str, value: float, limit: float, detail: str) -> Gate:
    """Pass if the value is at most the limit; NaN never passes."""
    return Gate(name, value <= limit, _finite(value), limit, detail)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def quality_gates(
    metrics: Metrics, chance: ChanceLevels, groups: tuple[GroupResult, ...], limits: GateLimits
) -> tuple[Gate, ...]:
    """Judge ranking, calibration and fairness on the test rows, and say what chance would do on so many."""
    return (
        _ranking_gate(metrics.roc_auc, chance, limits.minimum_auc),
        _calibration_gate(metrics.ece, chance, limits.maximum_ece),
        _adverse_impact_gate(groups, limits.minimum_air),
    )


def _ranking_gate(auc: float, chance: ChanceLevels, minimum: float) -> Gate:
    # A limit up to .5 asks for no skill.
    limit = max(minimum, chance.roc_auc) if minimum > 0.5 else minimum
    return at_least(
        "roc_auc",
        auc,
        limit,
        f"ROC AUC on {chance.rows} test rows, {chance.defaults} of them defaults; required {minimum:g}, and a model "
        f"without skill reaches {chance.roc_auc:.3g} in 1 of 20 such samples",
    )


def _calibration_gate(ece: float, chance: ChanceLevels, maximum: float) -> Gate:
    """Pass if the error is within the limit, or within what a perfectly calibrated model would show."""
    detail = (
        f"expected calibration error on {chance.rows} test rows; allowed {maximum:g}, and a perfectly calibrated model "
        f"exceeds {chance.ece:.3g} in 1 of 20 such samples"
    )
    if chance.ece > maximum > 0:
        # The error that chance causes falls with the square root of the rows.
        enough = math.ceil(chance.rows * (chance.ece / maximum) ** 2 / 100) * 100
        detail += f"; about {enough} test rows would tell {maximum:g} from chance"
    return at_most("ece", ece, max(maximum, chance.ece), detail)


def _adverse_impact_gate(groups: tuple[GroupResult, ...], minimum: float) -> Gate:
    """Refuse what the rows show to be below the limit, and name the groups that they cannot judge."""
    bounds = {group: group.highest_ratio for group in groups if group.highest_ratio is not None}
    lowest = min(bounds.values(), default=1.0)
    refused = [group for group in bounds if bounds[group] < minimum]
    shown = refused or [group for group in bounds if bounds[group] == lowest]
    parts = [_treatment(group, groups, len(bounds), minimum) for group in shown]
    others = [group for group in groups if group not in refused]
    if small := [group for group in others if group.is_small]:
        parts.append(f"not judged, because there are fewer than {MINIMUM_GROUP_ROWS} rows: {_listed(small)}")
    if unclear := [group for group in others if group.adverse_impact_ratio < minimum and not group.is_small]:
        parts.append(f"below {minimum:g}, but by no more than chance allows: {_listed(unclear)}")
    detail = "95 % upper bound of the lowest ratio; " + "; ".join(parts) if bounds else "no groups to compare"
    return at_least("adverse_impact_ratio", lowest, minimum, detail)


def _listed(groups: Sequence[GroupResult]) -> str:
    return ", ".join(
        f"{group.attribute}={group.group} ({group.rows} rows, ratio {group.adverse_impact_ratio:.3g})"
        for group in groups
    )


def _treatment(group: GroupResult, groups: tuple[GroupResult, ...], comparisons: int, minimum: float) -> str:
    """Say how a group was treated and, if it is refused, how many approvals would pass."""
    own = group.approvals
    reference = next(g for g in groups if (g.attribute, g.group) == (group.attribute, group.best_group))
    best = reference.approvals
    more = bisect_left(
        range(own.approved, own.rows),
        minimum,
        key=lambda approved: highest_ratio(Approvals(approved, own.rows), best, comparisons=comparisons),
    )
    return (
        f"{group.attribute}={group.group}: {own.approved} of {own.rows} rows approved, "
        f"{group.adverse_impact_ratio:.3g} times the rate of {group.best_group} ({best.approved} of {best.rows}); "
        f"{group.default_rate:.0%} against {reference.default_rate:.0%} defaulted"
        + (f", {own.approved + more} approved would pass" if more else "")
    )


def approval_gate(approved: int, rows: int) -> Gate:
    """Require that the decision threshold approves anyone: a service that declines everyone is of no use."""
    return at_least("approvals", approved, 1, f"of {rows} test rows below the decision threshold")


def finite_gate(probability: npt.NDArray[np.float32]) -> Gate:
    """Require a probability as the score of every edge case."""
    wrong = int((~(np.isfinite(probability) & (probability >= 0) & (probability <= 1))).sum())
    return at_most("finite", wrong, 0, f"scores outside 0..1 among {len(probability)} edge cases")


def parity_gate(trained: npt.NDArray[np.float32], exported: npt.NDArray[np.float32]) -> Gate:
    """Require the same scores from the exported graph and the trained network; both [N]."""
    distance = float(np.abs(trained.astype(np.float64) - exported).max())
    return at_most(
        "export_parity", distance, PARITY_LIMIT, f"largest difference on {len(trained)} rows, edge cases among them"
    )


def contract_gate(production: Contract | None, challenger: Contract, limits: GateLimits) -> Gate:
    """Require that clients of the Production model can keep sending what they send."""
    if production is None:
        return Gate("contract", True, 0, 0, "no Production model yet")
    found = incompatibilities(production, challenger)
    problems = "; ".join(str(problem) for problem in found)
    if not found:
        return Gate("contract", True, 0, 0, "compatible with the Production model")
    if limits.allow_contract_change:
        return Gate("contract", True, len(found), len(found), f"change allowed: {problems}")
    return at_most("contract", len(found), 0, f"{problems}; or pass --allow-contract-change")


def champion_gate(comparison: Comparison | None, limits: GateLimits, *, reason: str) -> Gate:
    """Require that the model is not worse than Production.

    Args:
        comparison: The measured difference; None never passes.
        limits: Has the allowed margin.
        reason: What the model was compared with, or why it could not be compared.
    """
    if comparison is None:
        return Gate("not_worse_than_production", False, None, -limits.margin, reason)
    chance = comparison.auc_difference - comparison.lower_bound
    return at_least(
        "not_worse_than_production",
        comparison.lower_bound,
        -limits.margin,
        f"95 % lower bound of the AUC difference of {comparison.auc_difference:+.4f} from {reason}; on these "
        f"test rows, chance accounts for {chance:.4f} of it",
    )


def edge_cases(declaration: FeatureDeclaration, rows: Floats, positions: Integers) -> tuple[Floats, Integers]:
    """Build rows that are most likely to break a network.

    Args:
        declaration: The valid values.
        rows: One typical row of numbers, float32 [numeric].
        positions: One typical row of category codes, int64 [categorical].

    Returns:
        float32 [M, numeric] and int64 [M, categorical]: each numeric feature at both ends of its range and missing, all
        of them together at each, each category code once, everything missing at once, and random rows from the whole
        range, with missing values and other categories.
    """
    inputs = declaration.inputs
    low = np.array([feature.minimum for feature in declaration.numeric], dtype=np.float32)
    high = np.array([feature.maximum for feature in declaration.numeric], dtype=np.float32)
    absent = np.where(inputs.missing, np.float32(np.nan), low) if len(low) else low
    unknown = np.array([codes.missing_code if codes.missing else 0 for codes in inputs.categories], dtype=np.int64)
    numbers, categories = [low, high, absent, absent], [positions, positions, positions, unknown]
    for index in range(len(low)):
        for end in (low, high, absent):
            numbers.append(np.where(np.arange(len(low)) == index, end, rows))
            categories.append(positions)
    for index, column in enumerate(inputs.categories):
        for code in column.codes:
            numbers.append(rows)
            categories.append(np.where(np.arange(len(positions)) == index, code, positions))
    rng = np.random.default_rng(0)
    random_numbers = rng.uniform(low, high, (_RANDOM_EDGE_ROWS, len(low))).astype(np.float32)
    hidden = (rng.random(random_numbers.shape) < _HIDDEN_SHARE) & np.array(inputs.missing, dtype=bool)
    random_positions = np.empty((_RANDOM_EDGE_ROWS, len(inputs.categories)), dtype=np.int64)
    for index, column in enumerate(inputs.categories):
        random_positions[:, index] = rng.choice(column.codes, _RANDOM_EDGE_ROWS)
    return (
        np.concatenate([np.stack(numbers), np.where(hidden, np.nan, random_numbers)]).astype(np.float32),
        np.concatenate([np.stack(categories), random_positions], dtype=np.int64),
    )
