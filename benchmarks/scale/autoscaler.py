"""What a HorizontalPodAutoscaler does: its algorithm for one resource metric, with Kubernetes' defaults.

By the documentation of autoscaling/v2 and the controller's code: utilization against the request, a tolerance, pods
without a measurement counted against the direction, policies of how much may change in a period, and the highest
recommendation of the last five minutes before fewer pods.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Policy:
    """An autoscaler's spec, and the controller's settings.

    Attributes:
        target: Utilization that is aimed at, as a share of the request.
        request: Cores that a pod requests, all its containers together.
        least: `minReplicas`.
        most: `maxReplicas`.
        sync: Seconds between two decisions.
        tolerance: By how much the ratio to the target may differ from 1 without a change.
        more_pods: How many pods may be added in a period, or
        more_percent: how many percent; the larger one counts.
        more_period: That period, in seconds.
        stabilization: For how many seconds the highest recommendation holds before there are fewer pods.
        initialization: For how many seconds after its start a pod's measurement counts only if it was taken when the
            pod was ready.
    """

    target: float = 0.7
    request: float = 0.1
    least: int = 2
    most: int = 10
    sync: int = 15
    tolerance: float = 0.1
    more_pods: int = 4
    more_percent: int = 100
    more_period: int = 15
    stabilization: int = 300
    initialization: int = 300


def desired(policy: Policy, replicas: int, usages: list[float], unready: int, missing: int) -> int:
    """Return how many pods the metric asks for, before policies and limits.

    Args:
        policy: The autoscaler.
        replicas: How many pods the Deployment wants now.
        usages: Cores in use by each pod that is ready and measured.
        unready: Pods that are starting: they count as idle when pods are added, and not at all otherwise.
        missing: Pods without a measurement: idle when pods are added, and as using their request otherwise.
    """
    if not usages:
        return replicas
    ratio = sum(usages) / len(usages) / policy.request / policy.target
    # What starts can only make fewer pods enough, so it is asked about only where more are wanted.
    with_unready = unready > 0 and ratio > 1
    if not with_unready and not missing:
        return replicas if abs(ratio - 1) <= policy.tolerance else math.ceil(ratio * len(usages) - 1e-9)
    counted = list(usages)
    if missing:
        counted += [policy.request if ratio < 1 else 0.0] * missing
    if with_unready:
        counted += [0.0] * unready
    anew = sum(counted) / len(counted) / policy.request / policy.target
    if abs(anew - 1) <= policy.tolerance or (ratio < 1 < anew) or (ratio > 1 > anew):
        return replicas
    wanted = math.ceil(anew * len(counted) - 1e-9)
    # A ratio above 1 never removes pods, and one below 1 never adds any.
    return replicas if (anew < 1 and wanted > replicas) or (anew > 1 and wanted < replicas) else wanted


@dataclass
class Autoscaler:
    """An autoscaler with what it remembers."""

    policy: Policy
    recommendations: deque[tuple[float, int]] = field(default_factory=deque)
    added: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, replicas: int, usages: list[float], unready: int = 0, missing: int = 0) -> int:
        """Return how many pods there shall be; call it every `sync` seconds."""
        policy = self.policy
        wanted = desired(policy, replicas, usages, unready, missing)
        self.recommendations.append((now, wanted))
        while self.recommendations[0][0] < now - policy.stabilization:
            self.recommendations.popleft()
        if wanted < replicas:
            wanted = min(replicas, max(count for _, count in self.recommendations))
        else:
            wanted = min(wanted, self._limit(now, replicas))
        wanted = min(max(wanted, policy.least), policy.most)
        if wanted > replicas:
            self.added.append((now, wanted - replicas))
        return wanted

    def _limit(self, now: float, replicas: int) -> int:
        while self.added and self.added[0][0] <= now - self.policy.more_period:
            self.added.popleft()
        before = replicas - sum(count for _, count in self.added)
        return max(before + self.policy.more_pods, math.ceil(before * (1 + self.policy.more_percent / 100)))
