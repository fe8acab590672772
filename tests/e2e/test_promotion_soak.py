"""Rollouts one after the other for as long as asked, good and bad ones, while pods are killed at any moment.

CREDIT_RISK_SOAK_MINUTES says for how long; 30 without it. The dice's seed stands in the failure.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from e2e import bad_models as versions
from e2e.beside import on_a_lane_of_its_own
from e2e.lanes import Lane
from e2e.pods import OPERATOR, PROMOTER, SCORER, is_ready, processes, sigkill

pytestmark = [pytest.mark.soak, pytest.mark.e2e, pytest.mark.slow]
BAD = {versions.drifted: "score PSI", versions.shifted: "decision shift", versions.failing: "error rate"}


def kill_operator(lane: Lane) -> None:
    (pod,) = lane.pods(OPERATOR, lane.operator_namespace)
    sigkill(processes(pod, PROMOTER))
    lane.site.kubectl(lane.operator_namespace, "delete", "pod", pod["metadata"]["name"], "--grace-period=1")


def kill_stable_pod(lane: Lane) -> None:
    sigkill(processes(next(filter(is_ready, lane.pods("creditrisk.io/track=stable"))), SCORER))


def leave_alone(_: Lane) -> None:
    """Harm nobody."""


def round_of(lane: Lane, dice: random.Random) -> None:
    """Have one rollout, with harm done to somebody at a moment of it."""
    harm: Callable[[Lane], None] = dice.choice([leave_alone, kill_operator, kill_stable_pod])
    make = dice.choice([versions.good, versions.good, *BAD])
    with lane.clients():
        doing = threading.Timer(dice.uniform(0, 30), harm, [lane])
        version = lane.roll_out(make)
        doing.start()
        if make is versions.good:
            lane.assert_promoted(version)
        else:
            lane.assert_rolled_back(version, "AnalysisFailed", BAD[make])
        doing.join()


@on_a_lane_of_its_own
def test_rollouts_go_well_for_as_long_as_they_are_made(lane: Lane) -> None:
    seed, rounds = random.randrange(1_000_000), 0
    dice, ends = random.Random(seed), time.monotonic() + 60 * float(os.environ.get("CREDIT_RISK_SOAK_MINUTES", "30"))
    lane.follow()
    try:
        while time.monotonic() < ends:
            round_of(lane, dice)
            rounds += 1
    except AssertionError as error:
        error.add_note(f"in round {rounds + 1} of seed {seed}")
        raise
