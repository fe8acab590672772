"""How fast the operator acts on a real cluster, and what the hop to the canary costs there.

    python benchmarks/operator/on_cluster.py [--trials 5] [--requests 4000] [--namespace credit-risk]

Needs a running stack (`make up`), whose registry it uses; service and operator run in a namespace of their own, which
is deleted afterwards. The registry is polled every 10 s, the default. For aborts, clients send 30 requests per second.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / part) for part in (
    "tests", "images/training/src", "cluster/src", "operator/src", "benchmarks/routing")]  # fmt: skip

import cost  # noqa: E402

from e2e.environment import Environment  # noqa: E402
from e2e.kubernetes_api import kubernetes_api  # noqa: E402
from e2e.model_versions import VersionPublisher, download_production, good  # noqa: E402
from e2e.namespace import ScenarioNamespace  # noqa: E402
from e2e.pods import CANARY  # noqa: E402
from e2e.registry_client import registry_client  # noqa: E402
from e2e.scenario import Scenario  # noqa: E402
from localcluster.__main__ import choose  # noqa: E402
from localcluster.stack import RELEASE, Stack  # noqa: E402

POLL_SECONDS = 10.0
HALF = [{"weight": 50, "duration": "1h"}]


@contextmanager
def benchmark_scenario(namespace: str) -> Iterator[Scenario]:
    """Yield a scenario in a namespace with its own API, operator and model."""
    stack = Stack(choose("auto"), namespace=namespace)
    with registry_client(stack) as client, kubernetes_api(stack) as api, tempfile.TemporaryDirectory() as folder:
        champion = download_production(Path(folder) / "champion")
        applicant = json.loads((champion / "contract.json").read_text())["reference_applicant"]
        publisher = VersionPublisher(client, champion, Path(folder))
        environment = Environment(stack, api, client, publisher, stack.cluster.images(), [applicant])
        own = ScenarioNamespace(environment, "promo-bench", own_operator=True)
        environment.kubectl("default", "delete", "namespace", own.name, "--ignore-not-found")
        try:
            own.install(poll_seconds=POLL_SECONDS)
            yield Scenario(own)
        finally:
            environment.kubectl("default", "delete", "namespace", own.name, "--wait=false")


def pointer_moves(scenario: Scenario, trials: int) -> tuple[list[float], list[float]]:
    """Return the seconds from a moved pointer to the canary's pod, and to its running container."""
    scenario.follow_pointer(steps=HALF)
    namespace, made, started = scenario.namespace, [], []
    for _ in range(trials):
        version = namespace.register(good)
        # At a random moment of the poll interval.
        time.sleep(random.uniform(0, POLL_SECONDS))
        moved = time.time()
        namespace.move_pointer(version)
        made.append(_seconds_until(namespace, moved, running=False))
        started.append(_seconds_until(namespace, moved, running=True))
        namespace.move_pointer(scenario.stable)
        scenario.promotion.wait_for_phase("Idle")
        namespace.wait_until("the canary is gone", lambda: not namespace.pods(CANARY))
    return made, started


def _seconds_until(namespace: ScenarioNamespace, moved: float, *, running: bool) -> float:
    while True:
        pods = namespace.pods(CANARY)
        states = [c.get("state", {}) for pod in pods for c in pod["status"].get("containerStatuses") or []]
        if pods and (not running or any("running" in state for state in states)):
            return time.time() - moved
        time.sleep(0.05)


def aborts(scenario: Scenario, trials: int) -> tuple[list[float], int]:
    """Return the seconds from each abort to the canary's last answer, and how many requests there were."""
    scenario.follow_pointer(steps=HALF)
    promotion, found = scenario.promotion, []
    with scenario.steady_clients():
        version = scenario.roll_out(good)
        for _ in range(trials):
            promotion.wait_for_weight(50)
            time.sleep(2)
            aborted = time.time()
            annotation = {"metadata": {"annotations": {"creditrisk.io/action": "abort"}}}
            scenario.namespace.environment.api.patch(promotion.path, annotation)
            promotion.wait_for_phase("Failed")
            all_answers = scenario.clients.answers
            answers = [answer.done for answer in all_answers if answer.by_canary and answer.version == version]
            if not any(aborted - 1 < done < aborted for done in answers):
                raise SystemExit("the canary answered no request right before the abort: this measures nothing")
            found.append(max(0.0, max(answers) - aborted))
            promotion.act("retry")
        count = len(scenario.clients.answers)
    return found, count


def hop(scenario: Scenario, requests: int) -> None:
    """Print how much longer an answer from the canary takes than one from the champion."""
    scenario.follow_pointer(steps=HALF)
    scenario.roll_out(good)
    scenario.promotion.wait_for_weight(50)
    namespace, environment = scenario.namespace, scenario.namespace.environment
    key = environment.stack_in(namespace.name).api_key
    body = json.dumps(environment.applications[0])
    cost.hop(environment.stack.url, body, requests, {"Host": namespace.host, "X-API-Key": key})


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000, help="for the hop")
    parser.add_argument("--namespace", default=RELEASE, help="of the stack whose registry is used")
    options = parser.parse_args()
    with benchmark_scenario(options.namespace) as scenario:
        made, started = pointer_moves(scenario, options.trials)
        lasts, count = aborts(scenario, options.trials)
        print(f"| {options.trials} trials each; none of {count} requests failed | median, s | longest, s | wanted |")
        print("|---|---|---|---|")
        for name, found, wanted in (
            (f"pointer moved to the canary's pod, poll every {POLL_SECONDS:g} s", made, POLL_SECONDS + 2),
            ("pointer moved to the canary's running container", started, POLL_SECONDS + 2),
            ("abort to the canary's last answer", lasts, 2),
        ):
            print(f"| {name} | {statistics.median(found):.2f} | {max(found):.2f} | {wanted:g} |", flush=True)
        print()
        hop(scenario, options.requests)


if __name__ == "__main__":
    main()
