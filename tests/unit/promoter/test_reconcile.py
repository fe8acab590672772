"""One turn: remembered before done, the weight before all else, refusals told once, and loops that nothing ends."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from promoter.adapters.canary_manifests import template_digest
from promoter.api.route import Route
from promoter.api.spec import ModelRef
from promoter.decision.decide import Decision
from promoter.decision.observation import CanaryView, Observation, PodReading, StableView
from promoter.decision.state import Event, Phase, RouteState, State
from promoter.errors import PermanentError, RetryableError
from promoter.poll import Poller
from promoter.ports import Owner, Pod, Snapshot
from promoter.reconcile import Subject, World, _behind, reconcile, tell_fault
from promoter.scheduler import Scheduler
from promoter.telemetry import Telemetry

Document = dict[str, Any]
OWNER = Owner("bank", "loans", "u-1")
POD = Pod("scoring-0", "10.0.0.1", 9090, ready=True, started_at=0.0, route_generation=1)


def document(action: str = "", **spec: Any) -> Document:
    annotations = {"creditrisk.io/action": action} if action else {}
    metadata = {"namespace": "bank", "name": "loans", "uid": "u-1", "generation": 3, "annotations": annotations}
    return {"metadata": metadata, "spec": {"model": {"name": "credit-risk"}, **spec}}


class Cluster:
    """Writes down what is asked of it; `refuse` and `fail` name calls that do not work."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.found = snapshot
        self.calls: list[str] = []
        self.saved: list[Document] = []
        self.events: list[Event] = []
        self.refuse: set[str] = set()
        self.fail: set[str] = set()

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            raise PermanentError(f"{name}: 403 forbidden")
        if name in self.fail:
            raise RetryableError(f"{name}: 500")

    async def snapshot(self, owner: Owner, target: str, *, with_pods: bool) -> Snapshot:
        self._note("snapshot")
        return self.found

    async def save_status(self, owner: Owner, status: Document) -> None:
        self._note("save_status")
        self.saved.append(status)

    async def apply_route(self, owner: Owner, target: str, route: Route) -> None:
        self._note("apply_route")

    async def nudge(self, owner: Owner, pods: tuple[Pod, ...], generation: int) -> None:
        self._note("nudge")

    async def apply_canary(self, owner: Owner, stable: Document, version: str, replicas: int) -> None:
        self._note("apply_canary")

    async def delete_canary(self, owner: Owner, target: str) -> None:
        self._note("delete_canary")

    async def set_stable_version(self, owner: Owner, target: str, version: str) -> None:
        self._note("set_stable_version")

    async def clear_action(self, owner: Owner, value: str) -> None:
        self._note("clear_action")

    async def emit(self, owner: Owner, event: Event) -> None:
        self._note("emit")
        self.events.append(event)


class Registry:
    def __init__(self) -> None:
        self.version = "2"
        self.tags: dict[str, dict[str, str]] = {}
        self.fault: Exception | None = None

    async def desired(self, model: ModelRef) -> str | None:
        return self.version

    async def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        if self.fault:
            raise self.fault
        self.tags[version] = tags


class Metrics:
    contracts: tuple[Document, Document] = ({}, {})
    asked = 0

    async def read(self, pod: Pod, stable: str | None, canary: str | None) -> PodReading:
        return PodReading(pod.name, 0.0, 1)

    async def not_ready_reason(self, pod: Pod) -> str:
        return ""

    async def contract(self, pod: Pod) -> Document:
        champion, canary = self.contracts
        return canary if "canary" in pod.name else champion

    async def query(self, url: str, query: str) -> float | str:
        self.asked += 1
        return 0.0


def town(snapshot: Snapshot | None = None) -> tuple[World, Cluster, Registry]:
    stable = StableView(exists=True, version="1", rolled_out=True, template="t")
    cluster, registry = Cluster(snapshot or Snapshot(stable=stable, stable_pods=(POD,))), Registry()
    poller = Poller(registry, 10, 60, time.monotonic)
    return World(cluster, registry, Metrics(), poller, Telemetry(), time.time), cluster, registry


def running(**changes: Any) -> State:
    """Return the state in the middle of version 2's only step."""
    state = State(
        phase=Phase.PROGRESSING, stable_version="1", canary_version="2", desired_version="2", step="1/3", weight=5,
        phase_started_at=time.time(), step_started_at=time.time() - 5, analyzed_at=time.time(), target="scoring",
        route=RouteState(generation=1, stable_version="1", canary_version="2", weight=5),
    )  # fmt: skip
    return state.model_copy(update=changes)


LIVE = Snapshot(
    stable=StableView(exists=True, version="1", rolled_out=True, template="t"),
    canary=CanaryView("2", "t", 1, 1), stable_pods=(POD,),
)  # fmt: skip


async def test_the_state_is_saved_before_anything_is_done() -> None:
    world, cluster, _ = town()
    await reconcile(world, Subject(OWNER, document(), State(stable_version="1", phase=Phase.IDLE)))
    assert cluster.calls[:2] == ["snapshot", "save_status"]
    assert cluster.saved[0]["phase"] == "Starting"


async def test_on_abort_the_weight_falls_and_the_pods_hear_of_it_before_all_else() -> None:
    world, cluster, registry = town(LIVE)
    registry.fault = RetryableError("the registry is away")
    await reconcile(world, Subject(OWNER, document("abort"), running()))
    assert cluster.calls[1:4] == ["save_status", "apply_route", "nudge"]
    assert "clear_action" in cluster.calls
    assert cluster.saved[0]["route"]["weight"] == 0


async def test_tags_that_the_registry_does_not_take_now_stay_pending_until_it_does() -> None:
    world, _, registry = town(LIVE)
    registry.fault = RetryableError("away")
    subject = Subject(OWNER, document("abort"), running())
    await reconcile(world, subject)
    assert "2" in subject.state.pending_tags
    registry.fault = None
    await reconcile(world, subject)
    assert registry.tags["2"]["creditrisk.io.rollout"] == "rolled-back"
    assert subject.state.pending_tags == {}


async def test_tags_that_the_registry_refuses_are_told_of_and_let_go() -> None:
    world, cluster, registry = town(LIVE)
    registry.fault = PermanentError("403")
    subject = Subject(OWNER, document("abort"), running())
    await reconcile(world, subject)
    assert subject.state.pending_tags == {}
    await reconcile(world, subject)
    assert [event.reason for event in cluster.events] == ["Aborted", "TagRefused"]


async def test_events_that_were_not_recorded_stay_pending_even_when_the_operator_is_killed_before() -> None:
    world, cluster, _ = town(LIVE)
    cluster.fail = {"emit"}
    await reconcile(world, Subject(OWNER, document("abort"), running()))
    assert cluster.events == []
    cluster.fail = set()
    heir = Subject(OWNER, document(), State.model_validate(cluster.saved[-1]))
    await reconcile(world, heir)
    assert [event.reason for event in cluster.events] == ["Aborted"]
    assert heir.state.pending_events == ()
    assert cluster.saved[-1]["pendingEvents"] == []


async def test_events_that_are_refused_hold_nothing_up() -> None:
    world, cluster, _ = town(LIVE)
    cluster.refuse = {"emit"}
    subject = Subject(OWNER, document("abort"), running())
    await reconcile(world, subject)
    assert subject.state.pending_events == ()
    assert "clear_action" in cluster.calls


async def test_a_refusal_by_the_cluster_is_told_and_does_not_change_the_status_to_and_fro() -> None:
    world, cluster, _ = town()
    cluster.refuse = {"apply_canary"}
    started = State(stable_version="1", canary_version="2", desired_version="2", phase=Phase.STARTING, target="scoring",
                    phase_started_at=time.time(), route=RouteState(generation=1, stable_version="1"))  # fmt: skip
    subject = Subject(OWNER, document(), started)
    await reconcile(world, subject)
    degraded = next(c for c in subject.state.conditions if c.type == "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "Refused")
    assert subject.state.message == "waiting for the canary: no pod yet; refused: apply_canary: 403 forbidden"
    saved = len(cluster.saved)
    for _ in range(3):
        await reconcile(world, subject)
    assert len(cluster.saved) == saved
    cluster.refuse = set()
    await reconcile(world, subject)
    await reconcile(world, subject)
    assert "refused" not in subject.state.message
    assert next(c for c in subject.state.conditions if c.type == "Degraded").status == "False"


CONTRACT: Document = {"features": [{"kind": "numeric", "name": "income", "minimum": 0, "maximum": 9}]}


@pytest.mark.parametrize(
    ("contracts", "phase", "words"),
    [
        (({}, {}), Phase.STARTING, "the contracts could not be read from /v1/model"),
        (({"threshold": 1}, CONTRACT), Phase.STARTING,
         "the champion's /v1/model says nothing to compare the canary's with: contract.features: Field required"),
        ((CONTRACT, {"threshold": 1}), Phase.ROLLING_BACK,
         "wrong contract: the canary's /v1/model does not say what it takes: contract.features: Field required"),
        ((CONTRACT, CONTRACT), Phase.PROGRESSING, "step 1/3"),
    ],
)  # fmt: skip
async def test_a_canary_gets_nobody_before_its_contract_is_known_to_fit(
    contracts: tuple[Document, Document], phase: Phase, words: str
) -> None:
    canary = replace(POD, name="scoring-canary-0")
    world, _, _ = town(replace(LIVE, canary_pods=(canary,)))
    world.metrics.contracts = contracts  # type: ignore[attr-defined]
    starting = running(phase=Phase.STARTING, weight=0, step="", step_started_at=None)
    subject = Subject(OWNER, document(), starting)
    await reconcile(world, subject)
    assert subject.state.phase == phase
    assert words in subject.state.message


async def test_what_fails_again_and_again_is_told_until_it_works() -> None:
    world, cluster, _ = town(LIVE)
    cluster.fail = {"apply_route"}
    scheduler = Scheduler(world, poll_seconds=0.02, tick_seconds=0.005)
    scheduler.seen(document() | {"status": running(weight=20).model_dump(mode="json", by_alias=True)})
    async with asyncio.timeout(5):
        while not (told := [status for status in cluster.saved if "trying again" in status["message"]]):
            await asyncio.sleep(0.01)
    condition = next(c for c in told[0]["conditions"] if c["type"] == "Degraded")
    assert (condition["status"], condition["reason"]) == ("True", "Retrying")
    assert condition["message"] == "apply_route: 500"
    assert told[0]["message"].endswith("; trying again: apply_route: 500")
    cluster.fail = set()
    async with asyncio.timeout(5):
        while "trying again" in cluster.saved[-1]["message"]:
            await asyncio.sleep(0.01)
    assert next(c for c in cluster.saved[-1]["conditions"] if c["type"] == "Degraded")["status"] == "False"
    await scheduler.close()


async def test_a_single_fault_is_nobodys_business() -> None:
    world, cluster, _ = town()
    subject = Subject(OWNER, document(), State(stable_version="1", phase=Phase.IDLE))
    await tell_fault(world, subject, RetryableError("409"))
    assert cluster.saved == []
    cluster.fail = {"save_status"}
    await tell_fault(world, subject, RetryableError("409"))
    assert subject.faults == 2


async def test_what_belongs_to_somebody_else_blocks_and_nothing_is_done() -> None:
    world, cluster, _ = town()
    cluster.refuse = {"snapshot"}
    subject = Subject(OWNER, document(), State())
    await reconcile(world, subject)
    assert cluster.calls == ["snapshot", "save_status"]
    assert {c.reason for c in subject.state.conditions} == {"Blocked"}


async def test_prometheus_is_asked_only_when_it_is_time_to_judge() -> None:
    world, _, _ = town(LIVE)
    metrics = [{"type": "Query", "name": "q", "query": "up", "limit": 1}]
    spec: Document = {"analysis": {"interval": "10s", "metrics": metrics, "prometheusUrl": "http://p"}}
    subject = Subject(OWNER, document(**spec), running())
    await reconcile(world, subject)
    assert world.metrics.asked == 0  # type: ignore[attr-defined]
    subject.state = running(analyzed_at=time.time() - 11)
    await reconcile(world, subject)
    assert world.metrics.asked == 1  # type: ignore[attr-defined]


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(town()[0], poll_seconds=0.05, tick_seconds=0.02)


async def test_neither_refusals_nor_silence_end_a_loop_and_both_are_counted() -> None:
    world, cluster, _ = town()
    cluster.refuse, scheduler = {"save_status"}, Scheduler(world, poll_seconds=0.02, tick_seconds=0.01)
    scheduler.seen(document())
    await asyncio.sleep(0.1)
    assert scheduler.hung(60) == []
    cluster.refuse, cluster.fail = set(), {"snapshot"}
    await asyncio.sleep(0.1)
    assert scheduler.hung(60) == []
    for kind in ("permanent", "retryable"):
        labels = {"namespace": "bank", "name": "loans", "kind": kind}
        assert world.telemetry.registry.get_sample_value("promoter_reconcile_errors_total", labels)
    await scheduler.close()


async def test_a_loop_that_ended_or_stands_still_is_hung(caplog: pytest.LogCaptureFixture) -> None:
    world, cluster, _ = town()
    scheduler = Scheduler(world, poll_seconds=1, tick_seconds=1)
    cluster.found = None  # type: ignore[assignment] # a fault of ours
    scheduler.seen(document())
    await asyncio.sleep(0.05)
    assert scheduler.hung(60) == ["bank/loans"]
    assert "promotion bank/loans ended" in caplog.text
    await scheduler.close()

    world, cluster, _ = town()
    stuck = asyncio.Event()

    async def never(*_: Any, **__: Any) -> Snapshot:
        await stuck.wait()
        raise AssertionError

    cluster.snapshot = never  # type: ignore[method-assign]
    scheduler = Scheduler(world, poll_seconds=1, tick_seconds=1)
    scheduler.seen(document())
    await asyncio.sleep(0.05)
    assert (scheduler.hung(60), scheduler.hung(0.01)) == ([], ["bank/loans"])
    await scheduler.close()


async def test_gauges_are_there_from_the_start_and_go_with_the_object(scheduler: Scheduler) -> None:
    registry = scheduler._world.telemetry.registry
    labels = {"namespace": "bank", "name": "loans", "phase": "Paused"}
    scheduler.seen(document() | {"status": {"phase": "Paused", "stableVersion": "1"}})
    assert registry.get_sample_value("promoter_phase", labels) == 1
    scheduler.gone(document())
    assert registry.get_sample_value("promoter_phase", labels) is None
    await scheduler.close()


async def test_verdicts_and_outcomes_are_counted() -> None:
    world, _, _ = town(LIVE)
    subject = Subject(OWNER, document("abort"), running())
    await reconcile(world, subject)
    labels = {"namespace": "bank", "name": "loans"}
    value = world.telemetry.registry.get_sample_value
    assert value("promoter_rollouts_total", {**labels, "outcome": "RolledBack"}) == 1
    subject = Subject(OWNER, document(), running(analyzed_at=0.0))
    await reconcile(world, subject)
    assert value("promoter_verdicts_total", {**labels, "verdict": "Inconclusive"}) == 1


def test_the_version_alone_makes_no_other_template() -> None:
    def digest(**annotations: str) -> str:
        return template_digest({"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {}}}})

    assert digest(**{"creditrisk.io/model-version": "1"}) == digest(**{"creditrisk.io/model-version": "2"})
    assert digest(image="1") != digest(image="2")


def test_a_pod_that_reports_an_older_route_is_nudged_again() -> None:
    seen = Observation(pods=(PodReading("scoring-0", generation=4), PodReading("scoring-1", generation=5)))
    pods = (replace(POD, route_generation=5), replace(POD, name="scoring-1", route_generation=5))
    wanted = Decision(State(route=RouteState(generation=5)), ())
    behind = _behind(Snapshot(stable_pods=pods), seen, wanted)
    assert [pod.route_generation for pod in behind.stable_pods] == [None, 5]
