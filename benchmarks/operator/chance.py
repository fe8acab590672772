"""How often chance alone rolls back a good version: simulated rollouts in which both arms score alike.

    python benchmarks/operator/chance.py [rollouts]

Applicants arrive at random, with scores from one distribution, whichever arm answers. The operator's own code judges
them, with the default limits, intervals and steps, and with those of the end-to-end tests.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("operator/src", "images/api/src")]

from promoter.api.durations import seconds  # noqa: E402
from promoter.api.rules import parse_spec  # noqa: E402
from promoter.api.spec import Spec  # noqa: E402
from promoter.api.status import Verdict  # noqa: E402
from promoter.decision.judge import judge  # noqa: E402
from scorer.metrics import SCORE_BUCKETS  # noqa: E402

Scores = npt.NDArray[np.float64]
THRESHOLD = 0.35
METRICS = [{"type": "ErrorRate"}, {"type": "ScorePSI"}, {"type": "DecisionShift"}]
TESTS: dict[str, Any] = {
    "steps": [{"weight": 30, "duration": "5s"}, {"weight": 60, "duration": "5s"}],
    "analysis": {"interval": "2s", "minSamples": 40, "metrics": METRICS},
}
WIDE = [METRICS[0], METRICS[1] | {"limit": 0.5}, METRICS[2] | {"limit": 0.15}]


def counted(arm: str, scores: Scores) -> dict[str, float]:
    """Return what the stable pods would have counted for an arm."""
    found = {f"{arm}/score/{edge}": float((scores <= edge).sum()) for edge in SCORE_BUCKETS}
    approved = float((scores < THRESHOLD).sum())
    return found | {
        f"{arm}/outcome/ok": float(len(scores)), f"{arm}/score/+Inf": float(len(scores)),
        f"{arm}/decision/approve": approved, f"{arm}/decision/decline": len(scores) - approved,
    }  # fmt: skip


def rolled_back(spec: Spec, rate: float, dice: np.random.Generator) -> bool:
    """Return whether one rollout of a good version fails at this number of requests per second."""
    interval, failures = seconds(spec.analysis.interval), 0
    for step in spec.steps:
        arms, passed = [np.empty(0), np.empty(0)], 0.0
        while True:
            passed += interval
            count = dice.poisson(rate * interval)
            share = dice.binomial(count, (step.weight or 0) / 100)
            arms = [np.concatenate([old, dice.beta(1.2, 3.5, new)]) for old, new in zip(
                arms, (count - share, share), strict=True)]  # fmt: skip
            totals = counted("stable", arms[0]) | counted("canary", arms[1])
            verdict, _ = judge(spec, totals, shadowing=False, unreadable=[], queries={})
            failures += verdict == Verdict.FAILED
            if failures >= spec.analysis.failure_limit:
                return True
            if verdict == Verdict.SUCCESSFUL and passed >= seconds(step.duration or "0s"):
                break
    return False


def main(arguments: Sequence[str]) -> None:
    """Simulate and print the table."""
    rollouts, dice = int((arguments or ["300"])[0]), np.random.default_rng(3)
    default = {"analysis": {"metrics": METRICS}}
    wide = TESTS | {"analysis": TESTS["analysis"] | {"metrics": WIDE}}
    print("| steps and limits | requests/s | good rollouts | rolled back |\n|---|---|---|---|")
    for name, rate, changes in (
        ("default", 5, default), ("default", 50, default),
        ("the tests' steps, default limits", 30, TESTS), ("the tests'", 30, wide),
    ):  # fmt: skip
        spec = parse_spec({"model": {"name": "loans"}, **changes})
        bad = sum(rolled_back(spec, rate, dice) for _ in range(rollouts))
        print(f"| {name} | {rate} | {rollouts} | {bad} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
