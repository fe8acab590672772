"""What an autoscaled Deployment does when requests grow, or when a zone is lost: second by second.

    python benchmarks/scale/scenarios.py ramp [--to 50000] [--over 60] [--request 1.0] [--pod-start 5] ...
    python benchmarks/scale/scenarios.py zone-loss [--to 50000] [--target 0.45] ...
    python benchmarks/scale/scenarios.py waits [--turn-us 60] [--request-us 31]

The last one prints how long requests wait by how busy pods are. In the others, requests are a fluid, since what matters
takes seconds. A pod that is asked for more than it can do refuses the rest, as the service does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from autoscaler import Autoscaler, Policy  # noqa: E402
from queueing import Balancing, Service, fleet  # noqa: E402

# How often a metrics server reads the kubelets, and how long after a node's silence its pods leave the Service, and are
# replaced: Kubernetes' defaults.
METRICS_SECONDS, SILENCE_SECONDS, EVICTION_SECONDS = 15, 40, 300
BUSY, PODS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), 8


@dataclass(frozen=True)
class Cluster:
    """What the scenarios share.

    Attributes:
        pod_rate: Requests per second of one pod, which then uses a whole core.
        pod_start: Seconds from the decision for a pod until it is ready.
        overhead: Cores that a pod uses whatever it is asked for; its shipper's.
    """

    pod_rate: float
    pod_start: float = 5.0
    overhead: float = 0.0


@dataclass(frozen=True)
class Second:
    """One second of a scenario; rates are requests per second."""

    at: int
    offered: float
    refused: float
    lost: float
    wanted: int
    ready: int
    utilization: float


@dataclass
class Fleet:
    """The pods of a Deployment: when each is ready, and how many are lost with their zone."""

    cluster: Cluster
    ready_at: list[float]
    dead: int = 0

    def ready(self, now: float) -> int:
        """Return how many pods answer."""
        return sum(at <= now for at in self.ready_at)

    def scale(self, now: float, wanted: int) -> None:
        """Start or end pods; those that are not ready yet end first."""
        while len(self.ready_at) + self.dead < wanted:
            self.ready_at.append(now + self.cluster.pod_start)
        while len(self.ready_at) + self.dead > wanted and self.ready_at:
            self.ready_at.remove(max(self.ready_at))


def run(
    policy: Policy, cluster: Cluster, load: Callable[[int], float], seconds: int, first: int,
    zones: int = 3, loss_at: int | None = None,
) -> list[Second]:  # fmt: skip
    """Return what happens second by second.

    Args:
        policy: The autoscaler.
        cluster: What pods can do.
        load: Requests per second that are offered, by the second.
        seconds: For how long.
        first: How many pods there are at the beginning, all ready.
        zones: Over how many zones they are spread.
        loss_at: When one of the zones is lost, if one is.

    Raises:
        ValueError: There is no pod to begin with.
    """
    if first < 1:
        raise ValueError(f"{first} pods at the beginning: 1 or more are needed")
    fleet, autoscaler = Fleet(cluster, [float("-inf")] * first), Autoscaler(policy)
    wanted, used, measured, since, found = first, 0.0, 0.0, 0, []
    for now in range(seconds):
        if now == loss_at:
            fleet.dead = -(-first // zones)
            fleet.ready_at = fleet.ready_at[fleet.dead :]
        if loss_at is not None and now == loss_at + EVICTION_SECONDS:
            fleet.dead = 0
            fleet.scale(now, wanted)
        ready, offered = fleet.ready(now), load(now)
        # Until its node counts as silent, a dead pod gets its share of the requests.
        addressed = ready + (fleet.dead if loss_at is not None and now < loss_at + SILENCE_SECONDS else 0)
        share = offered / max(addressed, 1)
        utilization = min(1.0, share / cluster.pod_rate)
        used += utilization + cluster.overhead
        refused = max(0.0, share - cluster.pod_rate) * ready
        found.append(Second(now, offered, refused, share * (addressed - ready), wanted, ready, utilization))
        if now % METRICS_SECONDS == METRICS_SECONDS - 1:
            measured, used, since = used / (now + 1 - since), 0.0, now + 1
        if now and now % policy.sync == 0:
            unready = len(fleet.ready_at) - ready
            wanted = autoscaler.decide(now, wanted, [measured] * ready, unready, fleet.dead)
            fleet.scale(now, wanted)
    return found


def summary(found: Sequence[Second]) -> dict[str, float]:
    """Return what matters of a scenario: shares of requests, and pods."""
    offered = sum(one.offered for one in found)
    most = max(one.ready for one in found)
    return {
        "refused_share": sum(one.refused for one in found) / offered,
        "lost_share": sum(one.lost for one in found) / offered,
        "seconds_with_refusals": sum(one.refused > 0 for one in found),
        "seconds_with_losses": sum(one.lost > 0 for one in found),
        "most_ready": most,
        "most_ready_at": next(one.at for one in found if one.ready == most),
        "highest_utilization": max(one.utilization for one in found),
        "ready_at_the_end": found[-1].ready,
    }


def ramp_of(start: float, to: float, begins: int, over: int) -> Callable[[int], float]:
    """Return a load that grows in a line from one rate to another."""
    return lambda now: start + (to - start) * min(1.0, max(0.0, (now - begins) / max(over, 1)))


def waits(service: Service, seconds: float) -> str:
    """Return p50 and p99 in milliseconds as Markdown, by how busy the pods are and by the balancer."""
    lines = [f"| requests/s, of those of {PODS} full pods | {' | '.join(f'{one}: p50, p99' for one in Balancing)} |",
             "|---|---|---|---|"]  # fmt: skip
    for share in BUSY:
        found = [fleet(service, share * PODS / service.request, PODS, seconds, one) for one in Balancing]
        cells = (f"{one.percentile(50):.2f}, {one.percentile(99):.2f}" for one in found)
        lines.append(f"| {share:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a scenario, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=["ramp", "zone-loss", "waits"])
    parser.add_argument("--pod-rate", type=float, default=14_404, help="requests per second of a pod's core")
    parser.add_argument("--pod-start", type=float, default=5, help="seconds until a pod is ready")
    parser.add_argument("--start", type=float, default=5_000, help="requests per second before the ramp")
    parser.add_argument("--to", type=float, default=50_000, help="and after it; with zone-loss, all the time")
    parser.add_argument("--over", type=int, default=60, help="seconds that the ramp takes")
    parser.add_argument("--target", type=float, default=0.7)
    parser.add_argument("--request", type=float, default=1.0, help="cores that a pod requests")
    parser.add_argument("--most", type=int, default=100, help="maxReplicas")
    parser.add_argument("--zones", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=900)
    parser.add_argument("--every-second", action="store_true", help="print each second as JSON instead")
    parser.add_argument("--turn-us", type=float, default=60, help="of a turn of the event loop (waits)")
    parser.add_argument("--request-us", type=float, default=31, help="and of each request in it (waits)")
    given = parser.parse_args(arguments)
    if given.scenario == "waits":
        print(waits(Service(given.turn_us / 1e6, given.request_us / 1e6), 0.25))
        return
    policy, cluster = Policy(given.target, given.request, most=given.most), Cluster(given.pod_rate, given.pod_start)
    ramps = given.scenario == "ramp"
    load = ramp_of(given.start if ramps else given.to, given.to, 120, given.over)
    first = -(-load(0) // (given.pod_rate * given.target * given.request))
    found = run(policy, cluster, load, given.seconds, max(policy.least, min(int(first), given.most)), given.zones,
                None if ramps else 120)  # fmt: skip
    for one in found if given.every_second else ():
        print(json.dumps(asdict(one)))
    if not given.every_second:
        print(json.dumps(summary(found), indent=2))


if __name__ == "__main__":
    main()
