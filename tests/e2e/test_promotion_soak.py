"""Rollouts of good and bad versions one after another, while pods are killed at random moments.

CREDIT_RISK_SOAK_MINUTES sets the duration, 30 by default. A failure states the seed of the random choices.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable

import pytest

from e2e import model_versions as versions
from e2e.parallel import promotion_scenario
from e2e.pods import OPERATOR, PROMOTER, SCORER, STABLE, is_ready, processes, sigkill
from e2e.scenario import Scenario

pytestmark = [pytest.mark.soak, pytest.mark.e2e, pytest.mark.slow]
BAD = {versions.drifted: "score PSI", versions.shifted: "decision shift", versions.failing: "error rate"}


def kill_operator(scenario: Scenario) -> None:
    namespace = scenario.namespace
    (pod,) = namespace.pods(OPERATOR, namespace.operator_namespace)
    sigkill(processes(pod, PROMOTER))
    name, environment = pod["metadata"]["name"], namespace.environment
    environment.kubectl(namespace.operator_namespace, "delete", "pod", name, "--grace-period=1")


def kill_stable_pod(scenario: Scenario) -> None:
    sigkill(processes(next(filter(is_ready, scenario.namespace.pods(STABLE))), SCORER))


def kill_nothing(_: Scenario) -> None:
    """Inject no fault."""


def roll_out_under_a_fault(scenario: Scenario, rng: random.Random) -> None:
    """Roll one version out, inject a fault at a random moment, and assert that the rollout ends as it should."""
    inject: Callable[[Scenario], None] = rng.choice([kill_nothing, kill_operator, kill_stable_pod])
    make = rng.choice([versions.good, versions.good, *BAD])
    with scenario.steady_clients():
        fault = threading.Timer(rng.uniform(0, 30), inject, [scenario])
        version = scenario.roll_out(make)
        fault.start()
        if make is versions.good:
            scenario.assert_promoted(version)
        else:
            scenario.assert_rolled_back(version, "AnalysisFailed", BAD[make])
        fault.join()


@promotion_scenario(own_operator=True, clients=False)
def test_rollouts_under_random_faults_all_end_as_they_should(scenario: Scenario) -> None:
    seed, rounds = random.randrange(1_000_000), 0
    rng, ends = random.Random(seed), time.monotonic() + 60 * float(os.environ.get("CREDIT_RISK_SOAK_MINUTES", "30"))
    try:
        while time.monotonic() < ends:
            roll_out_under_a_fault(scenario, rng)
            rounds += 1
    except AssertionError as error:
        error.add_note(f"in round {rounds + 1} of seed {seed}")
        raise
    assert rounds > 0, "the time was up before the first rollout: set CREDIT_RISK_SOAK_MINUTES above 0"
