"""How fast the operator acts on a real cluster, and what the hop to the canary costs there.

    python benchmarks/operator/on_cluster.py [--trials 5] [--requests 4000] [--namespace credit-risk]

Needs a running stack (`make up`), whose registry it uses; API and operator run in a namespace of their own, which goes
afterwards. The registry is asked every 10 s, as by default. For aborts, clients come 30 times a second.
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

from e2e.bad_models import Shelf, download, good  # noqa: E402
from e2e.kube import api_of  # noqa: E402
from e2e.lanes import Lane, Site  # noqa: E402
from e2e.registry import registry  # noqa: E402
from localcluster.__main__ import choose  # noqa: E402
from localcluster.stack import RELEASE, Stack  # noqa: E402

POLL_SECONDS = 10.0
HALF = [{"weight": 50, "duration": "1h"}]


@contextmanager
def own_lane(namespace: str) -> Iterator[Lane]:
    """Yield a namespace with an API, an operator and a model of their own."""
    stack = Stack(choose("auto"), namespace=namespace)
    with registry(stack) as client, api_of(stack) as api, tempfile.TemporaryDirectory() as folder:
        champion = download(Path(folder) / "champion")
        applicant = json.loads((champion / "contract.json").read_text())["reference_applicant"]
        site = Site(stack, api, client, Shelf(client, champion, Path(folder)), stack.cluster.images(), [applicant])
        lane = Lane(site, "promo-bench", own_operator=True)
        site.kubectl("default", "delete", "namespace", lane.namespace, "--ignore-not-found")
        try:
            lane.install(poll_seconds=POLL_SECONDS)
            yield lane
        finally:
            site.kubectl("default", "delete", "namespace", lane.namespace, "--wait=false")


def pointer_moves(lane: Lane, trials: int) -> tuple[list[float], list[float]]:
    """Return the seconds from a moved pointer to the canary's pod, and to its running container."""
    lane.follow(steps=HALF)
    made, started = [], []
    for _ in range(trials):
        version = lane.register(good)
        # At any moment of the poll's interval.
        time.sleep(random.uniform(0, POLL_SECONDS))
        moved = time.time()
        lane.point_to(version)
        made.append(_seconds_until(lane, moved, running=False))
        started.append(_seconds_until(lane, moved, running=True))
        lane.point_to(lane.stable)
        lane.wait_for("rest", lambda s: s["phase"] == "Idle")
        lane.wait_until("the canary is gone", lambda: not lane.pods("creditrisk.io/track=canary"))
    return made, started


def _seconds_until(lane: Lane, moved: float, *, running: bool) -> float:
    while True:
        pods = lane.pods("creditrisk.io/track=canary")
        states = [c.get("state", {}) for pod in pods for c in pod["status"].get("containerStatuses") or []]
        if pods and (not running or any("running" in state for state in states)):
            return time.time() - moved
        time.sleep(0.05)


def aborts(lane: Lane, trials: int) -> tuple[list[float], int]:
    """Return the seconds from each abort to the canary's last answer, and how many requests there were."""
    lane.follow(steps=HALF)
    found = []
    with lane.clients():
        version = lane.roll_out(good)
        for _ in range(trials):
            lane.wait_for("the canary's share", lambda s: s["phase"] == "Progressing" and s["verifiedWeight"] == 50)
            time.sleep(2)
            aborted = time.time()
            annotation = {"metadata": {"annotations": {"creditrisk.io/action": "abort"}}}
            lane.site.api.patch(lane.path, annotation)
            lane.wait_for("the end", lambda s: s["phase"] == "Failed")
            answers = [answer.done for answer in lane.load.answers if answer.by_canary and answer.version == version]
            if not any(aborted - 1 < done < aborted for done in answers):
                raise SystemExit("the canary answered nobody right before the abort: this measures nothing")
            found.append(max(0.0, max(answers) - aborted))
            lane.act("retry")
        count = len(lane.load.answers)
    return found, count


def hop(lane: Lane, requests: int) -> None:
    """Print what an answer by the canary takes longer than one by the champion."""
    lane.follow(steps=HALF)
    lane.roll_out(good)
    lane.wait_for("the canary's share", lambda s: s["phase"] == "Progressing" and s["verifiedWeight"] == 50)
    key = lane.site.in_namespace(lane.namespace).api_key
    body = json.dumps(lane.site.applications[0])
    cost.hop(lane.site.stack.url, body, requests, {"Host": lane.host, "X-API-Key": key})


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4000, help="for the hop")
    parser.add_argument("--namespace", default=RELEASE, help="of the stack whose registry is used")
    options = parser.parse_args()
    with own_lane(options.namespace) as lane:
        made, started = pointer_moves(lane, options.trials)
        lasts, count = aborts(lane, options.trials)
        print(f"| {options.trials} trials each; none of {count} requests failed | median, s | longest, s | wanted |")
        print("|---|---|---|---|")
        for name, found, wanted in (
            (f"pointer moved to the canary's pod, poll every {POLL_SECONDS:g} s", made, POLL_SECONDS + 2),
            ("pointer moved to the canary's running container", started, POLL_SECONDS + 2),
            ("abort to the canary's last answer", lasts, 2),
        ):
            print(f"| {name} | {statistics.median(found):.2f} | {max(found):.2f} | {wanted:g} |", flush=True)
        print()
        hop(lane, options.requests)


if __name__ == "__main__":
    main()
