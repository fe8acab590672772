"""The bins that values are counted in, as numbers and as SQL.

A feature's bins: 0 missing; of numbers then 1 below the training data's range, 2 and on between the edges, and at the
end one above that range; of categories 1 for another one than those of the contract, 2 and on in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from decisions.drift.contract import Categorical, DriftContract, Feature
from decisions.drift.reference import CategoricalReference, NumericReference, TrainingReference

Counts = npt.NDArray[np.float64]
MISSING, OUTSIDE = 0, 1
_FIRST = 2
# Bins of the probability of default for ranking and accuracy: of its log odds, this wide, up to this far from 0.
LOG_ODDS_WIDTH, LOG_ODDS_REACH = 0.01, 16


@dataclass(frozen=True)
class FeatureBins:
    """The bins of one feature.

    Attributes:
        feature: Of the contract.
        edges: Between the bins of a number, rising; empty for categories.
    """

    feature: Feature
    edges: tuple[float, ...] = ()

    @cached_property
    def labels(self) -> list[str]:
        """What people call each of `compared`'s bins."""
        if isinstance(self.feature, Categorical):
            return ["(missing)", "(other)", *self.feature.categories]
        if not self.edges:
            return ["(missing)", "any"]
        between = [f"{_number(low)} - {_number(high)}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return ["(missing)", f"< {_number(self.edges[0])}", *between, f">= {_number(self.edges[-1])}"]

    @property
    def count(self) -> int:
        """How many bins there are."""
        if isinstance(self.feature, Categorical):
            return _FIRST + len(self.feature.categories)
        return _FIRST + len(self.edges) + 2

    def compared(self, counts: Counts) -> Counts:
        """Return the counts, [count], of the bins that distances are between.

        Numbers outside of the training data's range belong to its lowest and highest bin: how many they are is a figure
        of its own.
        """
        if isinstance(self.feature, Categorical):
            return counts
        inner = counts[_FIRST:-1].copy()
        inner[0] += counts[OUTSIDE]
        inner[-1] += counts[-1]
        return np.concatenate([counts[:1], inner])

    def outside(self, counts: Counts) -> float:
        """Return how many values are outside of the training data's range, or in none of its categories."""
        beyond = 0.0 if isinstance(self.feature, Categorical) else float(counts[-1])
        return float(counts[OUTSIDE]) + beyond

    def of_reference(self, reference: NumericReference | CategoricalReference) -> Counts:
        """Return the counts of the training data; none of it is outside of its own range."""
        if isinstance(reference, CategoricalReference):
            assert isinstance(self.feature, Categorical)  # noqa: S101 - `read_reference` has checked that
            known = [reference.counts[name] for name in self.feature.categories]
            return np.array([reference.missing, reference.other, *known])
        return np.array([reference.missing, 0.0, *reference.counts, 0.0])

    def sql(self, value: str) -> str:
        """Return the expression of a value's bin."""
        if isinstance(self.feature, Categorical):
            whens = " ".join(
                f"WHEN {literal(name)} THEN {_FIRST + n}" for n, name in enumerate(self.feature.categories)
            )
            return f"CASE {value} {whens} ELSE CASE WHEN {value} IS NULL THEN {MISSING} ELSE {OUTSIDE} END END"
        low, high = self.feature.range
        # Inputs are float32, and the limits are not: the nearest float32 is still inside.
        whens = "".join(f" WHEN {value} < {edge!r} THEN {_FIRST + n}" for n, edge in enumerate(self.edges))
        return (
            f"CASE WHEN {value} IS NULL THEN {MISSING} WHEN {value} < {_float32(low, -np.inf)!r} THEN {OUTSIDE} "
            f"WHEN {value} > {_float32(high, np.inf)!r} THEN {self.count - 1}{whens} ELSE {self.count - 2} END"
        )


@dataclass(frozen=True)
class Bins:
    """The bins of everything that is counted."""

    contract: DriftContract
    features: tuple[FeatureBins, ...]

    @classmethod
    def of_training(cls, contract: DriftContract, reference: TrainingReference) -> Bins:
        """Return the bins of a training reference."""
        known = [(feature, reference.features[feature.name]) for feature in contract.features]
        return cls(contract, tuple(
            FeatureBins(feature, of.edges if isinstance(of, NumericReference) else ()) for feature, of in known
        ))  # fmt: skip

    @property
    def score_edges(self) -> tuple[float, ...]:
        """The inner edges of the contract's score histogram; scores beyond its ends count in its first and last bin."""
        return self.contract.score_histogram.edges[1:-1]

    def of_feature(self, name: str) -> FeatureBins | None:
        """Return a feature's bins, or None if the contract does not have it."""
        return next((bins for bins in self.features if bins.feature.name == name), None)


def inner_edges(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Return the quantiles that can be edges: without repetitions, and without the lowest value.

    A value that is as frequent as several bins together, such as 0, so has one bin.
    """
    return tuple(sorted(set(quantiles)))


def score_sql(edges: Sequence[float], value: str) -> str:
    """Return the expression of a score's bin, from 0."""
    if not edges:
        return "0"
    whens = " ".join(f"WHEN {value} < {edge!r} THEN {n}" for n, edge in enumerate(edges))
    return f"CASE {whens} ELSE {len(edges)} END"


def log_odds_sql(value: str) -> str:
    """Return the expression of the narrow bin of a probability; it rises with it, from 0."""
    steps = LOG_ODDS_REACH / LOG_ODDS_WIDTH
    odds = f"ln(greatest({value}, 1e-9) / greatest(1 - {value}, 1e-9))"
    return f"least(greatest(round({odds} / {LOG_ODDS_WIDTH}), {-steps}), {steps})::INTEGER + {steps:.0f}"


def literal(text: str) -> str:
    """Return a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def _float32(limit: float, towards: float) -> float:
    near = np.float32(limit)
    outward = near > limit if towards > 0 else near < limit
    return float(near) if outward else float(np.nextafter(near, np.float32(towards)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
