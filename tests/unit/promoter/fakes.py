"""Adapters that tests control, and promotions in the states that tests start from."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

from promoter.api.resource import Owner
from promoter.api.route import Route
from promoter.api.spec import ModelRef
from promoter.api.status import ArtifactCopy, Event, Phase, RouteState, State
from promoter.decision.actions import ApplyCanary, SetStableVersion
from promoter.decision.observation import CanaryView, PodReading, StableView
from promoter.decision.readiness import Readiness
from promoter.errors import PermanentError, RetryableError
from promoter.poll import Poller
from promoter.ports import Pod, Snapshot, VersionFiles
from promoter.promotion import Adapters
from promoter.telemetry import Telemetry

Document = dict[str, Any]
OWNER = Owner("bank", "loans", "u-1")
POD = Pod("scoring-0", "10.0.0.1", 9090, ready=True, started_at=0.0, route_generation=1)


def document(action: str = "", **spec: Any) -> Document:
    """Return a ModelPromotion, with a manual action if one is given."""
    annotations = {"creditrisk.io/action": action} if action else {}
    metadata = {"namespace": "bank", "name": "loans", "uid": "u-1", "generation": 3, "annotations": annotations}
    return {"metadata": metadata, "spec": {"model": {"name": "credit-risk"}, **spec}}


# For tests of something else: copies that are there, because they consist of nothing.
COPIES = tuple(ArtifactCopy(version=version, digests={}, config_maps=()) for version in ("1", "2"))


class Cluster:
    """A cluster that records calls; those named in `refuse` are refused, those in `fail` fail."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.found = snapshot
        self.calls: list[str] = []
        self.saved_by: list[tuple[Owner, Document]] = []
        self.recorded: list[tuple[Owner, Event]] = []
        self.snapshots: list[tuple[Owner, str]] = []
        self.stable_versions: list[SetStableVersion] = []
        self.refuse: set[str] = set()
        self.fail: set[str] = set()

    @property
    def saved(self) -> list[Document]:
        """Return every saved status, whosever it is."""
        return [status for _, status in self.saved_by]

    @property
    def events(self) -> list[Event]:
        """Return every recorded Event, whosever it is."""
        return [event for _, event in self.recorded]

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            raise PermanentError(f"{name}: 403 forbidden")
        if name in self.fail:
            raise RetryableError(f"{name}: 500")

    async def snapshot(self, owner: Owner, target: str, *, with_pods: bool) -> Snapshot:
        self._note("snapshot")
        self.snapshots.append((owner, target))
        return self.found

    async def save_status(self, owner: Owner, status: Document) -> None:
        self._note("save_status")
        self.saved_by.append((owner, status))

    async def apply_route(self, owner: Owner, target: str, route: Route) -> None:
        self._note("apply_route")

    async def nudge(self, owner: Owner, pods: tuple[Pod, ...], generation: int) -> None:
        self._note("nudge")

    async def apply_canary(self, owner: Owner, stable: Document, canary: ApplyCanary) -> None:
        self._note("apply_canary")

    async def delete_canary(self, owner: Owner, target: str) -> None:
        self._note("delete_canary")

    async def set_stable_version(self, owner: Owner, stable: Document, wanted: SetStableVersion) -> None:
        self._note("set_stable_version")
        self.stable_versions.append(wanted)

    async def disable_scale_in(self, owner: Owner, name: str, policy: str) -> None:
        self._note(f"disable_scale_in {name} {policy}")

    async def restore_scale_in(self, namespace: str, name: str, policy: str) -> None:
        self._note(f"restore_scale_in {namespace} {name} {policy}")

    async def keep_artifacts(self, owner: Owner, target: str, files: VersionFiles) -> tuple[str, ...]:
        self._note("keep_artifacts")
        names = (f"{target}-model-{files.version}",)
        self.found = replace(self.found, artifacts=self.found.artifacts.union(names))
        return names

    async def delete_artifacts(self, owner: Owner, names: tuple[str, ...]) -> None:
        self._note("delete_artifacts")
        self.found = replace(self.found, artifacts=self.found.artifacts.difference(names))

    async def clear_action(self, owner: Owner, value: str) -> None:
        self._note("clear_action")

    async def record_event(self, owner: Owner, event: Event) -> None:
        self._note("record_event")
        self.recorded.append((owner, event))


class Registry:
    """A registry whose pointers name `version`; tags raise `fault`, and downloads `download_fault`, if there is one."""

    def __init__(self) -> None:
        self.version: str | None = "2"
        self.tags: dict[str, dict[str, str]] = {}
        self.fault: Exception | None = None
        self.digest = "d" * 64
        self.downloads: list[str] = []
        self.download_fault: Exception | None = None

    async def desired_version(self, model: ModelRef) -> str | None:
        return self.version

    async def version_exists(self, model: str, version: str) -> bool:
        return True

    async def moved_by(self, model: ModelRef, version: str | None) -> str | None:
        if self.fault:
            raise self.fault
        return "training run 4f"

    async def trained_by(self, model: str, version: str) -> tuple[str, ...]:
        if self.fault:
            raise self.fault
        return ("trainer",)

    async def download(self, model: str, version: str) -> VersionFiles:
        self.downloads.append(version)
        if self.download_fault:
            raise self.download_fault
        return VersionFiles(model, version, "run", {"model.onnx": self.digest}, {}, {"model.onnx": b"graph"})

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        if self.fault:
            raise self.fault
        self.tags[version] = tags


class Metrics:
    """Scoring pods that answer with these contracts (champion, canary) and this readiness, and a Prometheus."""

    def __init__(self) -> None:
        self.contracts: tuple[Document, Document] = ({}, {})
        self.answer = Readiness()
        self.queries = 0

    async def read(self, pod: Pod, stable: str | None, canary: str | None) -> PodReading:
        return PodReading(pod.name, 0.0, 1)

    async def readiness(self, pod: Pod) -> Readiness:
        return self.answer

    async def contract(self, pod: Pod) -> Document:
        champion, canary = self.contracts
        return canary if "canary" in pod.name else champion

    async def query(self, url: str, query: str) -> float | str:
        self.queries += 1
        return 0.0


class Fakes(NamedTuple):
    """Adapters, and the fakes behind them."""

    adapters: Adapters
    cluster: Cluster
    registry: Registry
    metrics: Metrics


STABLE = StableView(exists=True, version="1", rolled_out=True, template="t", wanted=2, available=2)
AT_REST = Snapshot(stable=STABLE, stable_pods=(POD,))
ROLLING_OUT = Snapshot(stable=STABLE, canary=CanaryView("2", "t", 1, 1), stable_pods=(POD,))


def fakes_for(snapshot: Snapshot = AT_REST) -> Fakes:
    cluster, registry, metrics = Cluster(snapshot), Registry(), Metrics()
    poller = Poller(registry, 10, 60, time.monotonic)
    adapters = Adapters(cluster, registry, metrics, poller, Telemetry(), time.time)
    return Fakes(adapters, cluster, registry, metrics)


def in_first_step(**changes: Any) -> State:
    """Return a state in the first of three steps of version 2's rollout."""
    state = State(
        phase=Phase.PROGRESSING, stable_version="1", canary_version="2", desired_version="2", step="1/3", weight=5,
        phase_started_at=time.time(), step_started_at=time.time() - 5, analyzed_at=time.time(), target="scoring",
        route=RouteState(generation=1, stable_version="1", canary_version="2", weight=5), artifacts=COPIES,
    )  # fmt: skip
    return state.model_copy(update=changes)
