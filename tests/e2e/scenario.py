"""A promotion scenario: a served champion, a ModelPromotion, steady clients, and what is expected in the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from e2e.clients import Clients, failed, sent_back
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.model_versions import Files
from e2e.namespace import TARGET, ScenarioNamespace
from e2e.promotion import EndedRollout, Promotion


@dataclass
class Scenario:
    """What a scenario acts on.

    Attributes:
        namespace: Where it runs.
        promotion: The ModelPromotion of the namespace's model.
        stable: The version that the stable Deployment serves.
        clients: The clients of the last `steady_clients` block.
    """

    namespace: ScenarioNamespace
    promotion: Promotion = field(init=False)
    stable: str = field(init=False, default="")
    clients: Clients = field(init=False)

    def __post_init__(self) -> None:
        self.promotion = Promotion(self.namespace)

    # --- given

    def follow_pointer(self, **spec: object) -> None:
        """Create a new ModelPromotion with this spec, which is at rest with the version that is served."""
        self.namespace.remove_promotions()
        self.namespace.move_pointer(self.namespace.served() or self.namespace.champion)
        self.promotion.apply(**spec)
        status = self.promotion.wait_for("a promotion at rest", lambda s: (
            s.get("phase") == "Idle" and s.get("stableVersion") and s.get("artifacts")))  # fmt: skip
        self.stable = str(status["stableVersion"])
        # Pods that did not have the copy of their files yet are replaced once.
        self.namespace.wait_until("the stable pods mount the copy of their files", lambda: (
            mounted_copy(self.namespace.deployment(TARGET)) == status["artifacts"][0]["configMaps"]))  # fmt: skip
        self.namespace.wait_for_rollouts(TARGET)

    @contextmanager
    def steady_clients(self, rate: float = 30.0) -> Iterator[Self]:
        """Let clients send requests for the duration of the block; afterwards each of them must have got a score."""
        with self.recorded_clients(rate):
            yield self
        assert len(self.clients.answers) > 20
        bad = failed(self.clients.answers)
        assert not bad, f"{len(bad)} of {len(self.clients.answers)} requests failed, the first: {bad[:3]}"

    @contextmanager
    def recorded_clients(self, rate: float = 30.0) -> Iterator[Clients]:
        """Let clients send requests for the duration of the block, for tests that judge the answers themselves."""
        environment = self.namespace.environment
        key = environment.stack_in(self.namespace.name).api_key
        self.clients = Clients(environment.stack.url, self.namespace.host, key, environment.applications, rate)
        with self.clients:
            yield self.clients

    # --- when

    def roll_out(self, make: Callable[[Files], None]) -> str:
        """Register a version, move the Production pointer to it, and return its number."""
        version = self.namespace.register(make)
        self.namespace.move_pointer(version)
        return version

    # --- then

    def assert_promoted(self, version: str, since: float = -math.inf, *, by_canary: bool = True) -> None:
        """Assert that a version was promoted and reported so everywhere, and that it lost no applicant to the old one.

        Args:
            version: The version.
            since: When the rollout began, if an earlier one of the same version had the same clients.
            by_canary: Whether it had a canary; without one, stable pods of both versions answer during their update.
        """
        self.promotion.wait_for(f"version {version} is promoted", lambda s: (
            s.get("stableVersion") == version and s.get("phase") == "Idle"))  # fmt: skip
        assert self.namespace.served() == version
        self._wait_for_removed_canary()
        assert self.promotion.history()[0] == EndedRollout(version, "Promoted", "Promoted")
        conditions = self.promotion.conditions()
        assert (conditions["Promoted"][0], conditions["Degraded"][0]) == ("True", "False")
        assert "Promoted" in self.promotion.events()
        self._wait_for_tag(version, "promoted")
        if by_canary:
            self.assert_nobody_was_sent_back(version, since=since)
        self.stable = version

    def assert_rolled_back(self, version: str, reason: str, *words: str) -> None:
        """Assert that a version was rolled back for this reason and reported so everywhere, and the champion serves."""
        status = self.promotion.wait_for(f"version {version} is rolled back", lambda s: (
            s.get("phase") == "Failed" and s["history"][0]["version"] == version))  # fmt: skip
        entry = next(entry for entry in status["failedVersions"] if entry["version"] == version)
        ended = self.promotion.history()[0]
        assert (ended.outcome, entry["reason"]) == ("RolledBack", reason), entry
        for word in words:
            assert word in entry["message"], entry
        assert status["stableVersion"] == self.namespace.served() == self.stable
        conditions = self.promotion.conditions()
        assert conditions["Promoted"][0] == "False"
        assert (conditions["Degraded"][0], conditions["Ready"][0]) == ("True", "True")
        # A pod that is being restarted is the more urgent reason.
        self.promotion.wait_for("the failure is the reason for Degraded", lambda _: (
            self.promotion.conditions()["Degraded"] == ("True", reason)))  # fmt: skip
        assert entry["message"][:200] in self.promotion.events()[reason]
        self._wait_for_tag(version, "rolled-back")
        recorded = self.namespace.tags(version)["creditrisk.io.rollout-reason"]
        assert recorded.startswith(f"{reason}: {entry['message'][:100]}")
        self._wait_for_removed_canary()
        self.assert_nobody_was_sent_back(version, until=ended.at)

    def assert_stopped(self, version: str, reason: str) -> None:
        """Assert that the last rollout was this version's, and that it ended without a judgment."""
        ended = self.promotion.history()[0]
        assert ended == EndedRollout(version, "Stopped", reason)
        assert self.namespace.served() == self.stable
        self.assert_nobody_was_sent_back(version, until=ended.at)

    def assert_completed(self, version: str, since: float = -math.inf) -> Document:
        """Assert that an experiment with a version is complete and reported so everywhere; return its report.

        Args:
            version: The challenger.
            since: When the experiment began, if an earlier one of the same version had the same clients.
        """
        self.promotion.wait_for(f"the experiment with version {version} is complete", lambda s: (
            s.get("phase") == "Idle" and s.get("completedVersion") == version))  # fmt: skip
        ended = self.promotion.history()[0]
        assert ended == EndedRollout(version, "Completed", "Completed")
        assert self.promotion.status()["stableVersion"] == self.namespace.served() == self.stable
        conditions = self.promotion.conditions()
        assert (conditions["Promoted"], conditions["Degraded"][0]) == (("False", "ExperimentCompleted"), "False")
        assert "ExperimentCompleted" in self.promotion.events()
        self._wait_for_tag(version, "completed")
        self._wait_for_removed_canary()
        self.assert_nobody_was_sent_back(version, since=since, until=ended.at)
        return ended.report

    def assert_nobody_was_sent_back(self, version: str, *, since: float = -math.inf, until: float = math.inf) -> None:
        """Assert that no applicant whom a new version answered was answered by the champion afterwards.

        Args:
            version: The new version.
            since: When its weight began to grow.
            until: When its weight first fell.
        """
        pairs = sent_back(self.clients.answers, version, since=since, until=until)
        assert not pairs, f"{len(pairs)} answers by others after version {version}'s, the first: {pairs[0]}"

    def answers_by_canary(self, version: str) -> int:
        """Return the number of clients' requests that the canary of a version answered."""
        return sum(answer.by_canary and answer.version == version for answer in self.clients.answers)

    def recent_versions(self, seconds: float) -> set[str]:
        """Return the versions that answered requests sent within the last seconds."""
        return {answer.version for answer in self.clients.since(time.time() - seconds)}

    def describe(self) -> str:
        """Return what helps to understand a failed scenario: pods, status, and the operator's log."""
        namespace = self.namespace
        pods = [f"{p['metadata']['name']} {p['status']['phase']}" for p in namespace.pods("app.kubernetes.io/name=api")]
        log = [line for line in namespace.operator_log() if f"{namespace.name}/" in line][-25:]
        return "\n".join([namespace.name, *pods, json.dumps(self.promotion.status(), indent=1), *log])

    def _wait_for_removed_canary(self) -> None:
        self.namespace.wait_until("the canary is gone", lambda: not self.namespace.deployment(f"{TARGET}-canary"))

    def _wait_for_tag(self, version: str, outcome: str) -> None:
        self.namespace.wait_until("the registry's tag", lambda: (
            self.namespace.tags(version).get("creditrisk.io.rollout") == outcome))  # fmt: skip


def mounted_copy(deployment: Document) -> list[str]:
    """Return the ConfigMaps with a version's files that the pods of a Deployment mount."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes") or []
    sources = [volume["projected"]["sources"] for volume in volumes if volume["name"] == "model-artifacts"]
    return [source["configMap"]["name"] for found in sources for source in found]


@contextmanager
def lone_scenario(
    environment: Environment, name: str, *, api_values: Sequence[str] = (), operator_values: Sequence[str] = ()
) -> Iterator[Scenario]:
    """Serve a champion in a namespace with an operator of its own, for the duration of the block.

    For faults that would reach other scenarios too: nothing runs beside it.
    """
    delete = ["delete", "namespace", name, "--ignore-not-found"]
    environment.kubectl("default", *delete)
    namespace = ScenarioNamespace(
        environment, name, own_operator=True, api_values=tuple(api_values), operator_values=tuple(operator_values)
    )
    try:
        namespace.install()
        yield Scenario(namespace)
    finally:
        environment.kubectl("default", *delete, "--wait=false")
