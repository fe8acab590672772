"""How often the gates are wrong by chance: the share of models refused, by test rows and by what is wrong with them.

python benchmarks/training/gates.py [calibration | fairness | ranking | champion ...] [--samples 400]

Each table compares the gate's rule with others: the limit alone, and other tests. Models are simulated: their
probabilities of default are beta distributed with a mean of .2, and the outcomes follow from the true probabilities.
"""

import argparse
from collections.abc import Callable, Container, Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, norm
from sklearn.metrics import roc_auc_score

from trainer.evaluation.chance import (
    CONFIDENCE,
    Approvals,
    auc_by_chance,
    calibration_error_by_chance,
    highest_ratio,
)
from trainer.evaluation.comparison import compare_auc
from trainer.evaluation.gates import GateLimits
from trainer.evaluation.metrics import expected_calibration_error

Vector = npt.NDArray[np.float64]
Row = tuple[object, ...]

LIMITS = GateLimits()
ROWS = (200, 800, 3_200, 20_000)
GROUP_ROWS = (20, 60, 200, 1_000)
DEFAULTS = ((100, 3), (200, 6), (200, 40), (800, 24), (800, 160), (3_200, 640))
MEAN_RATE = (0.6, 2.4)


def log_odds(probability: Vector) -> Vector:
    return np.log(probability / (1 - probability))


def probability_of(odds: Vector) -> Vector:
    return 1 / (1 + np.exp(-odds))


# What is true where the model says p.
CALIBRATIONS: dict[str, Callable[[Vector], Vector]] = {
    "perfectly calibrated": lambda p: p,
    "log-odds too low by .2": lambda p: probability_of(log_odds(p) + 0.2),
    "log-odds too low by .4": lambda p: probability_of(log_odds(p) + 0.4),
    "log-odds 1.5 times too far out": lambda p: probability_of(log_odds(p) / 1.5),
    "off by a wave of .08": lambda p: np.clip(p + 0.08 * np.sin(6 * np.pi * p), 0.001, 0.999),
}


def spiegelhalter(target: Vector, probability: Vector) -> bool:
    """Return whether Spiegelhalter's z (Statistics in Medicine 5, 1986) finds a miscalibration."""
    weight = 1 - 2 * probability
    variance = (weight**2 * probability * (1 - probability)).sum()
    return bool(abs(((target - probability) * weight).sum()) > norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(variance))


def hosmer_lemeshow(target: Vector, probability: Vector) -> bool:
    """Return whether the test of Hosmer and Lemeshow (1980) over ten groups of held-out rows finds one."""
    statistic = 0.0
    for part in np.array_split(np.argsort(probability), 10):
        expected = probability[part]
        statistic += (target[part] - expected).sum() ** 2 / (expected * (1 - expected)).sum()
    return bool(statistic > chi2.ppf(CONFIDENCE, 10))


def calibration(samples: int, only: Container[int], rng: np.random.Generator) -> Iterator[Row]:
    """Yield the shares of models that each rule refuses; all but the first also need an error above the limit."""
    yield ("rows", "model", "true error", "limit alone", "gate", "Spiegelhalter", "Hosmer-Lemeshow")
    large = np.clip(rng.beta(*MEAN_RATE, 500_000), 0.001, 0.999)
    for rows in filter(only.__contains__, ROWS):
        for name, truth in CALIBRATIONS.items():
            refused = np.zeros(4)
            for _ in range(samples):
                probability = np.clip(rng.beta(*MEAN_RATE, rows), 0.001, 0.999)
                target = (rng.random(rows) < truth(probability)).astype(np.float64)
                error = expected_calibration_error(target, probability)
                if error > LIMITS.maximum_ece:
                    by_chance = calibration_error_by_chance(probability)
                    refused += (
                        True,
                        error > by_chance,
                        spiegelhalter(target, probability),
                        hosmer_lemeshow(target, probability),
                    )
            yield rows, name, expected_calibration_error(truth(large), large), *(refused / samples)


# Approval rate of the largest group, of 1,000 rows, and the others' ratio to it.
TREATMENTS = {
    "alike, .7": (0.7, (1.0,)),
    "one of two at .8": (0.7, (0.8,)),
    "one of two at .6": (0.7, (0.6,)),
    "ten others alike, .4": (0.4, (1.0,) * 10),
    "five others at .8": (0.7, (0.8,) * 5),
    "one of five others at .6": (0.7, (1.0,) * 4 + (0.6,)),
}


def logarithm_bound(group: Approvals, best: Approvals, comparisons: int) -> float:
    """Return the upper bound from the ratio's logarithm with halves added (Walter, Biometrika 62, 1975)."""
    own, others = group.approved + 0.5, best.approved + 0.5
    variance = 1 / own - 1 / (group.rows + 0.5) + 1 / others - 1 / (best.rows + 0.5)
    ratio = own / (group.rows + 0.5) / (others / (best.rows + 0.5))
    return float(ratio * np.exp(norm.ppf(1 - (1 - CONFIDENCE) / comparisons) * np.sqrt(variance)))


def fairness(samples: int, only: Container[int], rng: np.random.Generator) -> Iterator[Row]:
    """Yield the shares of models that each rule refuses; the first two do not judge groups of fewer than 50 rows."""
    yield ("rows of a group", "groups", "limit alone", "each at 95 %", "gate: all at 95 %", "logarithm, all at 95 %")
    for rows in filter(only.__contains__, GROUP_ROWS):
        for name, (rate, ratios) in TREATMENTS.items():
            refused = np.zeros(4)
            for _ in range(samples):
                groups = [Approvals(int(rng.binomial(1_000, rate)), 1_000)]
                groups += [Approvals(int(rng.binomial(rows, rate * ratio)), rows) for ratio in ratios]
                best = max((group for group in groups if group.rows >= 50), key=lambda group: group.rate)
                others = [group for group in groups if group is not best]
                many = len(others)
                refused += (
                    any(group.rate < LIMITS.minimum_air * best.rate for group in others if group.rows >= 50),
                    any(highest_ratio(group, best) < LIMITS.minimum_air for group in others if group.rows >= 50),
                    any(highest_ratio(group, best, comparisons=many) < LIMITS.minimum_air for group in others),
                    any(logarithm_bound(group, best, many) < LIMITS.minimum_air for group in others),
                )
            yield rows, name, *(refused / samples)


def two_normal(rows: int, defaults: int, distance: float, rng: np.random.Generator) -> tuple[Vector, Vector]:
    """Return outcomes, and scores whose AUC is the normal distribution at distance / sqrt(2)."""
    target = np.repeat([0.0, 1.0], [rows - defaults, defaults])
    return target, rng.normal(size=rows) + distance * target


def ranking(samples: int, only: Container[int], rng: np.random.Generator) -> Iterator[Row]:
    """Yield the shares of models that pass."""
    yield ("rows", "defaults", "true AUC", "limit alone passes", "gate passes")
    for rows, defaults in (pair for pair in DEFAULTS if pair[0] in only):
        for auc in (0.5, 0.7, 0.8):
            passed = np.zeros(2)
            for _ in range(samples):
                target, score = two_normal(rows, defaults, float(norm.ppf(auc)) * 2**0.5, rng)
                found = roc_auc_score(target, score)
                limit = max(LIMITS.minimum_auc, auc_by_chance(defaults, rows - defaults))
                passed += found >= LIMITS.minimum_auc, found >= limit
            yield rows, defaults, auc, *(passed / samples)


def champion(samples: int, only: Container[int], rng: np.random.Generator) -> Iterator[Row]:
    """Yield the shares of challengers that pass, whose scores correlate with the champion's as two trainings' do."""
    yield ("rows", "true AUC difference", "limit alone passes", "gate passes", "median share of chance")
    for rows in filter(only.__contains__, ROWS):
        for lost in (0.0, 0.01, 0.03):
            passed, chance = np.zeros(2), []
            for _ in range(min(samples, 40) if rows > 5_000 else min(samples, 100)):
                distance = float(norm.ppf(0.85)) * 2**0.5
                target, score = two_normal(rows, rows // 5, 0.0, rng)
                other = 0.98 * score + (1 - 0.98**2) ** 0.5 * rng.normal(size=rows)
                before = probability_of(score + distance * target)
                now = probability_of(other + float(norm.ppf(0.85 - lost)) * 2**0.5 * target)
                found = compare_auc(target, before, now, seed=0)
                passed += found.auc_difference >= -LIMITS.margin, found.lower_bound >= -LIMITS.margin
                chance.append(found.auc_difference - found.lower_bound)
            yield rows, -lost, *(passed / len(chance)), float(np.median(chance))


TABLES = {"calibration": calibration, "fairness": fairness, "ranking": ranking, "champion": champion}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--samples", type=int, default=400)
    sizes = sorted({*ROWS, *GROUP_ROWS, *(rows for rows, _ in DEFAULTS)})
    parser.add_argument("--rows", type=int, nargs="+", choices=sizes, default=sizes)
    arguments = parser.parse_args()
    for name in arguments.tables:
        table = TABLES[name](arguments.samples, arguments.rows, np.random.default_rng(0))
        head = next(table)
        print(f"\n### {name}\n| " + " | ".join(map(str, head)) + " |\n|" + "---|" * len(head))
        for row in table:
            cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
