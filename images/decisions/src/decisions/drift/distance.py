"""How far two distributions over the same bins are from each other, and how sure that is.

Two distances: the population stability index (PSI), and the Jensen-Shannon divergence in bits, which is from 0 to 1.
An empty bin is finite: each bin of each sample gets half a row more, or what it would have of both samples taken
together if that is less. So a bin that is rare in both says nothing, and one that is empty in both is not there.

A sample's distance from its own distribution is not 0 but about (bins - 1) / rows. Its lower bound takes that into
account: the bootstrap says how much larger than the truth a distance comes out in samples of these sizes, and by how
much it scatters ("basic" bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 5.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]
_ADDED = 0.5
_NOTHING = 1e-12
_SAMPLES = 20_000
# The same report from the same decisions.
_SEED = 20260721


@dataclass(frozen=True)
class Distance:
    """A distance and its bounds, each of which holds with the confidence that was asked for."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Comparison:
    """Two samples, compared by both distances."""

    psi: Distance
    jensen_shannon: Distance


@dataclass(frozen=True)
class ShareChange:
    """How much larger a share is than another one, with its bounds."""

    share: float
    reference: float
    lower: float
    upper: float


def psi(counts: Counts, reference: Counts) -> Floats:
    """Return the population stability index of counts, [..., bins], against those of a reference, [..., bins]."""
    ours, theirs = _shares(counts, reference)
    return np.asarray(((ours - theirs) * np.log(ours / theirs)).sum(-1))


def jensen_shannon(counts: Counts, reference: Counts) -> Floats:
    """Return the Jensen-Shannon divergence, in bits, of counts, [..., bins], from those of a reference, [..., bins]."""
    ours, theirs = _shares(counts, reference)
    middle = (ours + theirs) / 2
    return np.asarray(((ours * np.log2(ours / middle)).sum(-1) + (theirs * np.log2(theirs / middle)).sum(-1)) / 2)


def compare(counts: Counts, reference: Counts, confidence: float) -> Comparison:
    """Return both distances of two samples with one-sided bounds, which take the sizes of both into account.

    Args:
        counts: Of the bins, [bins], of independent rows; not all 0.
        reference: The same of the reference.
        confidence: Of each bound, such as 0.999.
    """
    random = np.random.default_rng(_SEED)
    again = _resampled(counts, random), _resampled(reference, random)
    return Comparison(*(
        _bounded(float(measure(counts, reference)), measure(*again), confidence) for measure in (psi, jensen_shannon)
    ))  # fmt: skip


def expected_by_chance(counts: Counts, reference: Counts) -> float:
    """Return about what PSI comes out on average if both are samples of the same distribution."""
    bins = int(((counts + reference) > 0).sum())
    return (bins - 1) * (1 / float(counts.sum()) + 1 / float(reference.sum()))


def share_change(
    count: float, rows: float, reference_count: float, reference_rows: float, confidence: float
) -> ShareChange:
    """Return a share, another, and bounds of their difference (Newcombe, Statistics in Medicine 17, 1998, method 10).

    Args:
        count: How many of the rows have the property.
        rows: More than 0.
        reference_count: The same of the reference.
        reference_rows: More than 0.
        confidence: Of each bound.
    """
    ours, theirs = count / rows, reference_count / reference_rows
    (low, high), (low_reference, high_reference) = (
        wilson(count, rows, confidence), wilson(reference_count, reference_rows, confidence)
    )  # fmt: skip
    difference = ours - theirs
    return ShareChange(
        ours, theirs,
        difference - float(np.hypot(ours - low, high_reference - theirs)),
        difference + float(np.hypot(high - ours, theirs - low_reference)),
    )  # fmt: skip


def wilson(count: float, rows: float, confidence: float) -> tuple[float, float]:
    """Return one-sided bounds of a share (Wilson, 1927); each holds with this confidence."""
    z = NormalDist().inv_cdf(confidence)
    share, spread = count / rows, z * z / rows
    middle = (share + spread / 2) / (1 + spread)
    reach = float(np.sqrt(share * (1 - share) * spread + spread * spread / 4)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def _bounded(value: float, again: Floats, confidence: float) -> Distance:
    low, high = np.quantile(again, [1 - confidence, confidence])
    return Distance(value, max(0.0, 2 * value - float(high)), max(0.0, 2 * value - float(low)))


def _shares(counts: Counts, reference: Counts) -> tuple[Floats, Floats]:
    both = counts + reference
    pooled = both / both.sum(-1, keepdims=True)

    def filled(own: Counts) -> Floats:
        added = own + np.minimum(_ADDED, own.sum(-1, keepdims=True) * pooled) + _NOTHING
        return np.asarray(added / added.sum(-1, keepdims=True))

    ours, theirs = filled(counts), filled(reference)
    # Equal where both are empty.
    return ours, np.where(both > 0, theirs, ours)


def _resampled(counts: Counts, random: np.random.Generator) -> Counts:
    """Return [samples, bins] counts of as many rows, drawn again."""
    total = counts.sum()
    return random.multinomial(round(total), counts / total, size=_SAMPLES).astype(np.float64)
