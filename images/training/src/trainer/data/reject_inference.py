"""Reject inference: outcomes for applicants who were declined, and whose loans therefore never had one.

A model that learns from granted loans alone knows nothing of applicants like the declined ones. Both methods here give
those an outcome by the champion's probability of default, so they add no knowledge about them: they only keep the new
model from forgetting that such applicants exist. Whether they help or harm cannot be seen from the data (Hand and
Henley, "Can reject inference ever work?", IMA Journal of Management Mathematics 5, 1993), so none is the default.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

BANDS = 10


class RejectInference(StrEnum):
    """What becomes of rejected applicants in training.

    Attributes:
        NONE: They are not in it.
        PARCELLING: Each gets one outcome, at the rate of the accepted ones with a similar score.
        FUZZY: Each is both, a default and a repaid loan, with its probabilities as weights.
    """

    NONE = "none"
    PARCELLING = "parcelling"
    FUZZY = "fuzzy"


@dataclass(frozen=True)
class Inferred:
    """Rows to add to the training rows.

    Attributes:
        row: Which rejected applicant each row is, by position; int64 [K].
        target: 1 for default, 0 for repaid; float64 [K].
        weight: How many loans the row stands for; float64 [K]. The weights of an applicant's rows add up to 1.
    """

    row: Positions
    target: Doubles
    weight: Doubles


def fuzzy(rejected_pd: Doubles, *, factor: float = 1.0) -> Inferred:
    """Add each rejected applicant twice: as a default that counts PD, and as a repaid loan that counts 1 - PD.

    Fuzzy augmentation, as in N. Siddiqi, "Credit Risk Scorecards" (Wiley 2006), chapter 7, and R. Anderson, "The
    Credit Scoring Toolkit" (Oxford 2007), chapter 19.

    Args:
        rejected_pd: The champion's probability of default of each rejected applicant, 0 to 1; [M].
        factor: How many times likelier a rejected applicant defaults than an accepted one with the same score; above 0.

    Returns:
        2M rows: all defaults, then all repaid loans.

    Raises:
        ValueError: A probability is outside of 0 to 1, or the factor is not above 0.
    """
    probability = np.minimum(_checked(rejected_pd, factor) * factor, 1.0)
    rows = np.arange(len(probability), dtype=np.int64)
    return Inferred(
        row=np.concatenate([rows, rows]),
        target=np.concatenate([np.ones(len(rows)), np.zeros(len(rows))]),
        weight=np.concatenate([probability, 1.0 - probability]),
    )


def parcelling(
    accepted_pd: Doubles,
    accepted_target: Doubles,
    rejected_pd: Doubles,
    *,
    seed: int,
    accepted_weight: Doubles | None = None,
    bands: int = BANDS,
    factor: float = 1.0,
) -> Inferred:
    """Let as many rejected applicants of each band of scores default as accepted ones of that band did.

    Parcelling, as in N. Siddiqi, "Credit Risk Scorecards" (Wiley 2006), chapter 7. The bands are quantiles of the
    rejected applicants' probabilities. In a band, which of them default is by chance; their number is the rate times
    the number of applicants, rounded. A band without accepted applicants takes its mean probability as the rate.

    Args:
        accepted_pd: The champion's probability of default of each accepted applicant, 0 to 1; [N].
        accepted_target: 1 for default, 0 for repaid; [N].
        rejected_pd: The champion's probability of default of each rejected applicant; [M].
        seed: Chooses who defaults.
        accepted_weight: How many loans each accepted row stands for; [N], or None for one each.
        bands: Into how many bands the scores are divided, at most; at least 1.
        factor: How many times likelier a rejected applicant defaults than an accepted one with the same score; above 0.

    Returns:
        M rows of weight 1, in the order of the rejected applicants.

    Raises:
        ValueError: A probability is outside of 0 to 1, the factor is not above 0, or the lengths differ.
    """
    _checked(accepted_pd, factor)
    _checked(rejected_pd, factor)
    if len(accepted_pd) != len(accepted_target):
        raise ValueError(f"{len(accepted_pd)} probabilities of accepted applicants, but {len(accepted_target)} targets")
    if bands < 1:
        raise ValueError(f"{bands} bands: at least 1 is needed")
    weight = np.ones(len(accepted_pd)) if accepted_weight is None else accepted_weight
    generator = np.random.default_rng(seed)
    target = np.zeros(len(rejected_pd))
    edges = _inner_edges(rejected_pd, bands)
    accepted_band, rejected_band = np.digitize(accepted_pd, edges), np.digitize(rejected_pd, edges)
    for band in range(len(edges) + 1):
        members = np.flatnonzero(rejected_band == band)
        peers = accepted_band == band
        counted = float(weight[peers].sum())
        observed = float(np.average(accepted_target[peers], weights=weight[peers])) if counted else None
        expected = float(rejected_pd[members].mean()) if len(members) else 0.0
        rate = min(1.0, (expected if observed is None else observed) * factor)
        defaults = round(rate * len(members))
        target[generator.permutation(members)[:defaults]] = 1.0
    return Inferred(np.arange(len(rejected_pd), dtype=np.int64), target, np.ones(len(rejected_pd)))


def _inner_edges(probability: Doubles, bands: int) -> Doubles:
    """Return what divides probabilities into bands, at most `bands`: fewer if many are equal."""
    if not len(probability):
        return np.empty(0)
    return np.unique(np.quantile(probability, np.arange(1, bands) / bands))


def _checked(probability: Doubles, factor: float) -> Doubles:
    if not factor > 0:
        raise ValueError(f"factor {factor}: must be above 0")
    if len(probability) and not (probability.min() >= 0 and probability.max() <= 1):
        raise ValueError("probabilities of default must be from 0 to 1")
    return probability
