"""How often chance rolls back a good version, how often it lets a bad one pass, and how many samples a verdict takes.

    python benchmarks/operator/chance.py [rollouts] [words of the versions' names ...]

Rollouts are simulated, thousands at once: applicants arrive at random, both models score them, and after each interval
the rollout is judged, by pairs, by the two arms with the same bounds, and as it was before there were either. On a
sample of what is counted, the operator's own code must come to the same verdicts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("benchmarks/operator", "operator/src", "images/api/src")]

from former_verdicts import FORMER_JUDGES  # noqa: E402
from many_verdicts import FAILED, INCONCLUSIVE, JUDGES, SUCCESSFUL, Counted, Judge, answers  # noqa: E402
from population import BINS, GROUPS, Floats, Integers, Population, Version  # noqa: E402

from promoter.api.durations import seconds  # noqa: E402
from promoter.api.rules import parse_spec  # noqa: E402
from promoter.api.spec import MetricType, Spec  # noqa: E402
from promoter.api.status import Verdict  # noqa: E402
from promoter.decision.analysis import DECIDED_BY_THE_MODEL  # noqa: E402
from promoter.decision.chances import Chances  # noqa: E402
from promoter.decision.judge import judge  # noqa: E402
from promoter.decision.plan import PlannedStep, plan  # noqa: E402
from scorer.metrics import LATENCY_BUCKETS, SCORE_BUCKETS  # noqa: E402

# Rollouts that are undecided after so many looks count as neither promoted nor rolled back.
MOST_LOOKS = 400
CODES = {Verdict.SUCCESSFUL: SUCCESSFUL, Verdict.INCONCLUSIVE: INCONCLUSIVE, Verdict.FAILED: FAILED}
CHECKED = 4


@dataclass(frozen=True)
class Method:
    """A way to judge: whether requests of the canary are paired, and by which rules."""

    name: str
    paired: bool
    judges: Mapping[MetricType, Judge]

    @property
    def at_once(self) -> bool:
        """Return whether one Failed verdict on what the model decides is enough."""
        return self.judges is JUDGES


METHODS = (
    Method("pairs", paired=True, judges=JUDGES),
    Method("arms", paired=False, judges=JUDGES),
    Method("before", paired=False, judges=FORMER_JUDGES),
)


@dataclass
class Rollouts:
    """Simulated rollouts: how they ended (FAILED, SUCCESSFUL, or INCONCLUSIVE), and the canary's answers until then.

    `shown` are the answers until the first Successful verdict, infinite without one; `seconds` the time until the end.
    """

    ended: Integers
    answers: Floats
    shown: Floats
    seconds: Floats

    @classmethod
    def begin(cls, count: int) -> Rollouts:
        """Return rollouts before their first answer."""
        return cls(np.full(count, INCONCLUSIVE), np.zeros(count), np.full(count, np.inf), np.zeros(count))


# The looks after which a few verdicts are compared with the operator's.
CHECK_AT = {3, 9, 20, 33}


def draw(counted: Counted, rows: Integers, population: Population, method: Method, canary: Integers,
         champion: Integers, dice: np.random.Generator) -> None:  # fmt: skip
    """Let some rollouts count answers."""
    errors = dice.binomial(canary, population.version.errors)
    good = canary - errors
    cells = dice.multinomial(good, population.probability)
    counted.errors[rows] += errors
    counted.cells[rows] += cells
    counted.champion[rows] += dice.multinomial(champion, population.champion_probability)
    counted.champion_times[rows] += dice.multinomial(champion, population.latencies)
    counted.canary_times[rows] += dice.multinomial(canary, population.canary_latencies)
    if not method.paired:
        return
    counted.pair_cells[rows] += cells
    for column, side in enumerate((-1, 0, 1)):
        changed = cells[:, population.direction == side].sum(axis=1)
        counted.pair_groups[rows, :, column] += dice.multinomial(changed, GROUPS)


def simulate(spec: Spec, population: Population, method: Method, rate: float, count: int, seed: int) -> Rollouts:
    """Run rollouts at a number of requests per second, until each has ended."""
    dice, found = np.random.default_rng(seed), Rollouts.begin(count)
    counted = Counted.nothing(count, len(population.probability))
    failures = np.zeros(count, int)
    interval = seconds(spec.analysis.interval)
    # Where each rollout is: all run through the same steps, each at its own time.
    at, passed = np.zeros(count, int), np.zeros(count)
    steps, looks = plan(spec), 0
    while (rows := np.flatnonzero(found.ended == INCONCLUSIVE)).size and looks < MOST_LOOKS:
        looks += 1
        requests = dice.poisson(rate * interval, len(rows))
        weights = np.array([steps[step].weight for step in at[rows]])
        canary = dice.binomial(requests, weights / 100)
        draw(counted, rows, population, method, canary, requests - canary, dice)
        passed[rows] += interval
        found.seconds[rows] += interval
        found.answers[rows] += canary
        for index, step in enumerate(steps):
            if (here := rows[at[rows] == index]).size:
                _look(spec, step, population, method, counted, here, found, failures)
                done = here[(found.ended[here] == SUCCESSFUL) & (passed[here] >= (step.seconds or 0.0) - 1e-6)]
                found.ended[np.setdiff1d(here[found.ended[here] == SUCCESSFUL], done)] = INCONCLUSIVE
                if index + 1 < len(steps):
                    found.ended[done], at[done], passed[done] = INCONCLUSIVE, index + 1, 0.0
                    counted.next_step(done)
        if looks in CHECK_AT:
            _check(spec, population, method, counted, rows, at, dice)
    return found


def _look(spec: Spec, step: PlannedStep, population: Population, method: Method, counted: Counted, rows: Integers,
          found: Rollouts, failures: Integers) -> None:  # fmt: skip
    """Judge rollouts that are in the same step; `ended` of those whose verdict is Successful says so."""
    some, chances = counted.of(rows), Chances.of(spec, len(plan(spec)), step.margin)
    worst, proven = np.zeros(len(rows), int), np.zeros(len(rows), bool)
    for metric in spec.metrics:
        verdict = method.judges[metric.type](metric.effective_limit, population, some, chances)
        worst = np.maximum(worst, verdict)
        if method.at_once and metric.type in DECIDED_BY_THE_MODEL:
            proven |= verdict == FAILED
    failures[rows] += worst == FAILED
    found.ended[rows] = np.where(worst == SUCCESSFUL, SUCCESSFUL, INCONCLUSIVE)
    found.ended[rows[proven | (failures[rows] >= spec.analysis.failure_limit)]] = FAILED
    good = rows[worst == SUCCESSFUL]
    if step.margin == 2.0:
        found.shown[good] = np.minimum(found.shown[good], found.answers[good])


def _check(spec: Spec, population: Population, method: Method, counted: Counted, rows: Integers, at: Integers,
           dice: np.random.Generator) -> None:  # fmt: skip
    """Compare the verdicts on a few rollouts with the operator's own.

    Raises:
        SystemExit: they differ.
    """
    if not method.at_once:
        return
    for row in dice.choice(rows, min(CHECKED, len(rows)), replace=False):
        steps = plan(spec)
        margin = steps[at[row]].margin
        some, chances = counted.of(np.array([row])), Chances.of(spec, len(steps), margin)
        if not answers(some)[0]:
            continue
        _, results = judge(spec, totals(population, some), shadowing=False, unreadable=[], queries={},
                           steps=len(steps), margin=margin)  # fmt: skip
        for metric, result in zip(_judged(spec, method), results, strict=True):
            own = method.judges[metric](_limit(spec, metric), population, some, chances)[0]
            if own != CODES[result.verdict]:
                raise SystemExit(f"the operator's verdict differs from the simulation's {own}: {result}")


def _judged(spec: Spec, method: Method) -> list[MetricType]:
    return [entry.type for entry in spec.metrics if entry.type != MetricType.SEGMENT_SHIFT or method.paired]


def _limit(spec: Spec, kind: MetricType) -> float:
    return next(entry.effective_limit for entry in spec.metrics if entry.type == kind)


def totals(population: Population, one: Counted) -> dict[str, float]:
    """Return what the operator would have summed for one rollout."""
    edges = [*map(str, SCORE_BUCKETS), "+Inf"]
    champion = one.champion[0].reshape(BINS, 2)
    found = {"canary/outcome/error": one.errors[0], "canary/outcome/ok": one.cells[0].sum()}
    bins = np.zeros(BINS)
    np.add.at(bins, population.canary_bin, one.cells[0])
    for arm, histogram, times in (
        ("stable", champion.sum(axis=1), one.champion_times), ("canary", bins, one.canary_times)
    ):  # fmt: skip
        found |= {f"{arm}/score/{edge}": count for edge, count in zip(edges, histogram.cumsum(), strict=True)}
        bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
        found |= {f"{arm}/seconds/{edge}": count for edge, count in zip(bounds, times[0].cumsum(), strict=True)}
    declines = one.cells[0] @ population.declines
    found |= {
        "stable/decision/decline": champion[:, 1].sum(), "stable/decision/approve": champion[:, 0].sum(),
        "canary/decision/decline": declines, "canary/decision/approve": one.cells[0].sum() - declines,
    }  # fmt: skip
    return {key: float(count) for key, count in [*found.items(), *_pair_totals(population, one, edges)]}


def _pair_totals(population: Population, one: Counted, edges: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if not one.pair_cells.any():
        return
    changes = {-1: "decline_to_approve", 0: "both_approve", 1: "approve_to_decline"}
    scores: dict[str, float] = {}
    for before, after, count in zip(population.champion_bin, population.canary_bin, one.pair_cells[0], strict=True):
        if count:
            key = f"pair/score/{edges[before]}/{edges[after]}"
            scores[key] = scores.get(key, 0.0) + count
    yield from scores.items()
    for column, side in enumerate((-1, 0, 1)):
        yield f"pair/decision/{changes[side]}", one.pair_cells[0][population.direction == side].sum()
        for group in range(len(GROUPS)):
            if one.pair_groups[0, group].any():
                yield f"pair/segment/group/{group}/{changes[side]}", one.pair_groups[0, group, column]


ONLY = {kind: {"metrics": [{"type": kind}]} for kind in ("ScorePSI", "DecisionShift", "SegmentShift")}
ALL: dict[str, Any] = {}
SCENARIOS: tuple[tuple[str, Version, dict[str, Any]], ...] = (
    ("good", Version(), ALL),
    ("decision shift at its limit", Version(shift=0.05), ALL),
    ("error rate at its limit", Version(errors=0.02), ALL),
    ("score PSI at its limit", Version(psi=0.2), ONLY["ScorePSI"]),
    ("the decline rate of every segment at its limit", Version(shift=0.10), ONLY["SegmentShift"]),
    ("decision shift at twice its limit", Version(shift=0.10), ALL),
    ("the same, judged by it alone", Version(shift=0.10), ONLY["DecisionShift"]),
    ("error rate at twice its limit", Version(errors=0.04), ALL),
    ("score PSI at twice its limit", Version(psi=0.4), ONLY["ScorePSI"]),
    ("the decline rate of every segment at twice its limit", Version(shift=0.20), ONLY["SegmentShift"]),
)


def main(arguments: Sequence[str]) -> None:
    """Simulate and print the table."""
    count, words = int((arguments or ["2000"])[0]), arguments[1:] or [""]
    scenarios = [scenario for scenario in SCENARIOS if any(word in scenario[0] for word in words)]
    began, simulated = time.process_time(), 0
    print("| version | requests/s | judged by | rolled back | promoted | answers until the end | until shown to be "
          "good | minutes |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, version, analysis in scenarios:
        population = Population.of(version)
        spec = parse_spec({"model": {"name": "loans"}, "analysis": analysis})
        for rate in (5, 50):
            # Without pairs, nothing is known of segments.
            for method in METHODS if analysis is not ONLY["SegmentShift"] else METHODS[:1]:
                found = simulate(spec, population, method, rate, count, 7)
                print(f"| {name} | {rate} | {method.name} | {_row(found)} |", flush=True)
                simulated += count
    print(f"\n{simulated:,} rollouts in {time.process_time() - began:.0f} s of CPU time")


def _row(found: Rollouts) -> str:
    back, promoted = (found.ended == FAILED).mean(), (found.ended == SUCCESSFUL).mean()
    shown = np.median(found.shown)
    return (f"{back:.2%} | {promoted:.2%} | {np.median(found.answers):,.0f} | "
            f"{'never' if np.isinf(shown) else f'{shown:,.0f}'} | {np.median(found.seconds) / 60:.1f}")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
