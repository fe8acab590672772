"""How long requests wait: pods behind a load balancer, simulated with service times that were measured.

A scoring pod is one event loop. A turn of it reads all requests that its sockets hold, scores them in one call, and
answers them together, so a turn with n requests takes `turn + n * request` seconds, and nothing is answered before its
end. Requests that arrive meanwhile are for the next turn.

Pods meet only where the load balancer chooses one. So a pod is brought up to the moment when it is looked at, and no
queue of events is needed, neither heapq nor simpy; clients that wait for their answers need a heap of when each sends.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True)
class Service:
    """What a scoring pod takes for its requests, in seconds.

    Attributes:
        turn: For a turn of the event loop, however many requests it has.
        wake: In addition, for the first turn after a rest: a sleeping process must be scheduled, with cold caches.
        request: For each request in it.
        outside: What is added to a request's latency outside of the process: client and kernel.
        factors: By how much turns differ from that: multipliers, of which each is as likely as the others.
        limit: How many requests a pod takes at once; it refuses the others.
    """

    turn: float
    request: float
    outside: float = 0.0
    factors: tuple[float, ...] = (1.0,)
    wake: float = 0.0
    limit: int = 256

    def __post_init__(self) -> None:
        """Refuse what no pod can be.

        Raises:
            ValueError: A time or a factor is negative, there is no factor, or the limit is not above 0.
        """
        if min(self.turn, self.wake, self.outside) < 0 or self.request <= 0:
            raise ValueError("`turn`, `wake` and `outside` must be 0 or more, and `request` above 0")
        if not self.factors or min(self.factors) < 0 or self.limit < 1:
            raise ValueError("`factors` needs one number or more, all 0 or more, and `limit` must be 1 or more")

    def seconds(self, requests: int, rested: bool, dice: random.Random) -> float:
        """Return how long a turn with so many requests takes this time."""
        return (self.turn + self.wake * rested + self.request * requests) * dice.choice(self.factors)

    def capacity(self, connections: int) -> float:
        """Return the requests per second of a pod with so many clients that never pause."""
        mean = sum(self.factors) / len(self.factors)
        return connections / ((self.turn + self.request * connections) * mean)


@dataclass
class Pod:
    """One pod: what waits for its next turn, and when the current one ends."""

    service: Service
    dice: random.Random
    latencies: list[float]
    waiting: deque[float] = field(default_factory=deque)
    free_at: float = 0.0
    in_turn: int = 0
    refused: int = 0

    def advance(self, to: float) -> None:
        """Take all turns that begin before a moment."""
        while self.waiting and max(self.free_at, self.waiting[0]) < to:
            self.take_turn()
        if self.free_at <= to and not self.waiting:
            self.in_turn = 0

    def take_turn(self) -> float:
        """Answer all that have arrived when the next turn begins; return when it ends."""
        begins, arrived = max(self.free_at, self.waiting[0]), []
        while self.waiting and self.waiting[0] <= begins:
            arrived.append(self.waiting.popleft())
        self.free_at = begins + self.service.seconds(len(arrived), begins > self.free_at, self.dice)
        self.in_turn = len(arrived)
        self.latencies.extend(self.free_at - at + self.service.outside for at in arrived)
        return self.free_at

    def load(self, at: float) -> int:
        """Return how many requests the pod has at a moment."""
        self.advance(at)
        return len(self.waiting) + (self.in_turn if self.free_at > at else 0)

    def arrive(self, at: float) -> None:
        """Take a request, or refuse it if there are too many."""
        if self.load(at) >= self.service.limit:
            self.refused += 1
        else:
            self.waiting.append(at)


class Balancing(StrEnum):
    """How a load balancer chooses a pod."""

    # A Service's connections, or an ingress with random choice.
    RANDOM = "random"
    # Traefik's default.
    ROUND_ROBIN = "round robin"
    LEAST_OF_TWO = "least of two"


def chooser(balancing: Balancing, pods: Sequence[Pod], dice: random.Random) -> Callable[[float], Pod]:
    """Return what chooses a pod for a request that arrives at a moment."""
    turns = iter(_in_turn(pods))

    def least_of_two(at: float) -> Pod:
        one, other = dice.choice(pods), dice.choice(pods)
        return one if one.load(at) <= other.load(at) else other

    return {
        Balancing.RANDOM: lambda _: dice.choice(pods),
        Balancing.ROUND_ROBIN: lambda _: next(turns),
        Balancing.LEAST_OF_TWO: least_of_two,
    }[balancing]


def _in_turn(pods: Sequence[Pod]) -> Iterator[Pod]:
    while True:
        yield from pods


@dataclass(frozen=True)
class Waits:
    """What came of a simulation.

    Attributes:
        latencies: Of the requests that were answered, in seconds, sorted.
        refused: How many were refused.
        rate: Requests per second that were answered.
    """

    latencies: Sequence[float]
    refused: int
    rate: float

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies in milliseconds; nan without any.

        Raises:
            ValueError: `percent` is not between 0 and 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"{percent} is no percentile: 0 to 100 are")
        if not self.latencies:
            return math.nan
        return self.latencies[min(len(self.latencies) - 1, int(percent / 100 * len(self.latencies)))] * 1e3


def fleet(
    service: Service,
    rate: float,
    pods: int,
    seconds: float,
    balancing: Balancing = Balancing.ROUND_ROBIN,
    seed: int = 1,
) -> Waits:
    """Simulate requests that arrive at random (Poisson), whatever the answers, at so many pods."""
    dice = random.Random(seed)
    latencies: list[float] = []
    all_pods = [Pod(service, dice, latencies) for _ in range(pods)]
    choose, at, interval = chooser(balancing, all_pods, dice), 0.0, 1 / rate
    while (at := at + dice.expovariate(1.0) * interval) < seconds:
        choose(at).arrive(at)
    for pod in all_pods:
        pod.advance(math.inf)
    return Waits(sorted(latencies), sum(pod.refused for pod in all_pods), len(latencies) / seconds)


def clients(service: Service, connections: int, pause: float, seconds: float, seed: int = 1) -> Waits:
    """Simulate one pod and clients that each wait for an answer, pause for a random time, and send again.

    Args:
        service: The pod.
        connections: How many clients there are.
        pause: The mean of the pauses, which are exponential, in seconds; 0 for none.
        seconds: For how long.
        seed: Of the random numbers.
    """
    dice = random.Random(seed)

    def pausing() -> float:
        return dice.expovariate(1 / pause) if pause else 0.0

    sends = [pausing() for _ in range(connections)]
    heapq.heapify(sends)
    pod = Pod(service, dice, [])
    # A request is sent half of `outside` before it arrives; for the clients' rhythm the halves are the same.
    while sends and max(sends[0], pod.free_at) < seconds:
        begins = max(sends[0], pod.free_at)
        while sends and sends[0] <= begins:
            pod.waiting.append(heapq.heappop(sends))
        before = len(pod.latencies)
        pod.take_turn()
        for _ in pod.latencies[before:]:
            heapq.heappush(sends, pod.free_at + service.outside + pausing())
    return Waits(sorted(pod.latencies), 0, len(pod.latencies) / seconds)
