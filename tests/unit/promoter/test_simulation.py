"""Whatever happens to the world, these hold: a simulated cluster and registry under a stateful machine."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from promoter.api.route import Route
from promoter.api.spec import Spec, parse_spec
from promoter.decision.decide import decide
from promoter.decision.draft import ROUTE_LEAD_SECONDS
from promoter.decision.observation import (
    Action,
    ApplyCanary,
    ApplyRoute,
    CanaryView,
    ClearAction,
    DeleteCanary,
    Observation,
    PodReading,
    RegistryView,
    SetStableVersion,
    StableView,
    TagVersion,
)
from promoter.decision.state import Phase, State, Verdict

MIN_SAMPLES = 20
LOW, HIGH = {"weight": 10, "duration": "10s"}, {"weight": 50, "duration": "10s"}
SHORT_PAUSE = {"pause": {"duration": "5s"}}


def spec_with(steps: list[dict[str, Any]], interval: str = "5s", choice: str = "Wait", **more: Any) -> Spec:
    analysis = {"interval": interval, "minSamples": MIN_SAMPLES, "failureLimit": 2, "onInsufficientData": choice}
    return parse_spec({"model": {"name": "credit-risk"}, "steps": steps, "analysis": analysis,
                       "progressDeadlineSeconds": 60, **more})  # fmt: skip


SPECS = [
    spec_with([LOW, SHORT_PAUSE, HIGH]),
    spec_with([{"pause": {"duration": "20s"}}, LOW, HIGH, SHORT_PAUSE], choice="Pause"),
    spec_with([LOW, HIGH], interval="30s", shadow={"duration": "10s", "percent": 50}, rollbackWindow=0),
    spec_with([LOW, SHORT_PAUSE], interval="30s", canary={"replicas": 1}),
]
GUIDE = (Path(__file__).parents[3] / "docs" / "promotion.md").read_text()
ARROWS = set(re.findall(r"^ +(\w+) --> (\w+)", GUIDE, re.MULTILINE))
# What a promotion that does not move may say that it waits for.
PENDING = re.compile(r"wait|until resumed|suspended|roll to version|not passed|does not exist|no version")
VERSIONS = ["1", "2", "3", "4"]


@dataclass
class World:
    """A cluster, a registry and their users, as far as a decision can tell."""

    now: float = 1000.0
    desired: str | None = "2"
    registry_down: bool = False
    stable_version: str | None = "1"
    stable_rolled: bool = True
    canary_version: str | None = None
    canary_ready: bool = False
    canary_failure: str = ""
    route: Route | None = None
    seen_generation: int = 0
    pods: int = 2
    action: str = ""
    counters: dict[str, float] = field(default_factory=dict)

    def observe(self) -> Observation:
        return Observation(
            registry=RegistryView(error="down") if self.registry_down else RegistryView(self.desired),
            stable=StableView(True, self.stable_version, self.stable_rolled, "template", "0/2"),
            canary=CanaryView(self.canary_version, "template" if self.canary_version else "",
                              1 if self.canary_version else 0, int(self.canary_ready), "pulling", self.canary_failure),
            route=self.route,
            pods=tuple(PodReading(f"pod-{n}", 0.0, self.seen_generation, self.counters) for n in range(self.pods)),
            action=self.action,
        )  # fmt: skip

    def act(self, action: Action) -> None:
        match action:
            case ApplyRoute(route):
                self.route = route
            case ApplyCanary(version, _):
                if version != self.canary_version:
                    self.canary_version, self.canary_ready, self.canary_failure = version, False, ""
            case DeleteCanary():
                self.canary_version, self.canary_ready, self.canary_failure = None, False, ""
            case SetStableVersion(version):
                if version != self.stable_version:
                    self.stable_version, self.stable_rolled = version, False
            case ClearAction(value):
                self.action = "" if self.action == value else self.action
            case TagVersion():
                pass


class Promotion(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.spec = SPECS[0]
        self.state = State()
        self.retried: set[str] = set()
        self.answers_at_start = 0.0

    @initialize(spec=st.sampled_from(SPECS), stable=st.sampled_from(["1", None]))
    def begin(self, spec: Spec, stable: str | None) -> None:
        self.spec, self.world.stable_version = spec, stable

    def reconcile(self, executed: int | None = None) -> None:
        """Decide and act; `executed` cuts the actions off, as a killed operator does."""
        before, world = self.state, self.world
        decision = decide(self.spec, 1, before, world.observe(), world.now)
        self.check(before, decision.state, decision.actions)
        # A state goes through the status and back, as it does over a restart.
        self.state = State.model_validate(decision.state.model_dump(mode="json", by_alias=True))
        for action in decision.actions[:executed]:
            world.act(action)

    @rule(turns=st.integers(1, 25), requests=st.sampled_from([0, 30]))
    def all_goes_well_for_a_while(self, turns: int, requests: int) -> None:
        """The way deep into a rollout, which chance alone rarely finds."""
        self.world.pods = max(self.world.pods, 1)
        for _ in range(turns):
            self.all_goes_well(requests)
            self.reconcile()

    @rule(seconds=st.sampled_from([1, 3, 6, 70]))
    def the_operator_is_killed_as_a_weight_grows(self, seconds: int) -> None:
        """The larger weight is decided; until the next operator comes, nobody is told."""
        weight = self.state.route.weight
        for _ in range(25):
            self.all_goes_well(30)
            untold = copy.deepcopy(self.world)
            self.reconcile()
            if self.state.route.weight > weight:
                self.world = untold
                break
        self.world.now += seconds
        self.reconcile()

    def all_goes_well(self, requests: int) -> None:
        world = self.world
        world.now += 3
        world.stable_rolled = True
        world.canary_ready = world.canary_version is not None and not world.canary_failure
        world.seen_generation = world.route.generation if world.route else 0
        count(world.counters, requests, good=True)

    def check(self, before: State, after: State, actions: tuple[Action, ...]) -> None:
        world = self.world
        for action in actions:
            if isinstance(action, ApplyRoute) and action.route.canary:
                assert world.canary_ready, "live traffic to a version that is not ready"
                assert action.route.canary.version == world.canary_version
                told_late = action.route.canary.raised_at - world.now < ROUTE_LEAD_SECONDS / 2
                grows = after.verified_weight < action.route.canary.weight and action.route.canary.mode == "live"
                assert not (grows and told_late), "a larger weight holds before the pods could learn of it"
            if isinstance(action, ApplyCanary):
                failed_before = before.failed(action.version)
                assert not failed_before or action.version in self.retried, "a failed version is tried unasked"
        if after.route.weight:
            assert world.canary_ready, "a weight for a version that is not ready"
            assert world.canary_version == after.canary_version
        if after.phase == Phase.STARTING and before.phase != Phase.STARTING:
            self.answers_at_start = answers(world.counters)
        left = before.phase in {Phase.PROGRESSING, Phase.PAUSED}
        if left and after.phase == Phase.PROMOTING and not self.world.action:
            assert after.analysis is not None
            assert after.analysis.verdict == Verdict.SUCCESSFUL
            assert all(result.samples >= MIN_SAMPLES for result in after.analysis.results)
            most = 3 * (answers(world.counters) - self.answers_at_start)
            assert most >= MIN_SAMPLES, "promoted with fewer answers than all pods together gave"
        assert before.phase == after.phase or (before.phase, after.phase) in ARROWS, (
            "the guide's picture lacks an arrow"
        )
        if after.stable_version != before.stable_version and before.stable_version is not None:
            assert world.stable_version == after.stable_version, "stable before the fact"
            assert world.stable_rolled
        if after.phase != Phase.IDLE:
            assert after.message, "stuck with no reason given"
        self.retried -= {entry.version for entry in after.failed_versions if entry not in before.failed_versions}
        if len(after.failed_versions) < len(before.failed_versions):
            self.retried |= {e.version for e in before.failed_versions} - {e.version for e in after.failed_versions}

    @rule(seconds=st.sampled_from([1, 3, 6, 12, 70]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += seconds
        self.reconcile()

    @rule(executed=st.integers(0, 4))
    def the_operator_is_killed_in_the_middle_of_its_actions(self, executed: int) -> None:
        self.reconcile(executed)

    @rule(version=st.sampled_from([*VERSIONS, None]))
    def the_pointer_moves(self, version: str | None) -> None:
        self.world.desired = version
        self.reconcile()

    @rule(down=st.booleans())
    def the_registry_comes_and_goes(self, down: bool) -> None:
        self.world.registry_down = down
        self.reconcile()

    @precondition(lambda self: self.world.canary_version)
    @rule(ready=st.booleans())
    def canary_pods_come_and_go(self, ready: bool) -> None:
        self.world.canary_ready = ready and not self.world.canary_failure
        self.reconcile()

    @precondition(lambda self: self.world.canary_version)
    @rule()
    def the_canary_crashes(self) -> None:
        self.world.canary_ready, self.world.canary_failure = False, "CrashLoopBackOff"
        self.reconcile()

    @rule()
    def the_stable_pods_roll(self) -> None:
        self.world.stable_rolled = True
        self.reconcile()

    @rule()
    def the_stable_pods_see_the_route(self) -> None:
        self.world.seen_generation = self.world.route.generation if self.world.route else 0
        self.reconcile()

    @rule(pods=st.integers(0, 3))
    def stable_pods_come_and_go(self, pods: int) -> None:
        self.world.pods = pods
        self.reconcile()

    @rule(good=st.booleans(), requests=st.sampled_from([3, 30, 300]))
    def requests_arrive(self, good: bool, requests: int) -> None:
        count(self.world.counters, requests, good=good)
        self.reconcile()

    @rule(action=st.sampled_from(["resume", "abort", "promote", "retry", "dance"]))
    def somebody_acts_by_hand(self, action: str) -> None:
        self.world.action = action
        self.reconcile()

    @invariant()
    def weights_are_only_trusted_when_seen(self) -> None:
        if self.state.verified_weight and self.world.pods:
            assert self.state.route.generation > 0

    def stand_still(self) -> None:
        """Let time pass in a world in which nothing else happens: it rests in the end, or says what it waits for."""
        kept = copy.deepcopy(self.world), self.state, set(self.retried)
        for _ in range(200):
            self.world.now += 3
            self.reconcile()
        assert self.state.phase in {Phase.IDLE, Phase.FAILED} or PENDING.search(self.state.message), self.state.message
        self.world, self.state, self.retried = kept

    def teardown(self) -> None:
        """However it went: when the world behaves from now on, the promotion comes to rest at the pointer."""
        self.stand_still()
        world = self.world
        world.registry_down, world.action, world.pods = False, "", 2
        world.desired = world.desired or "1"
        for _ in range(400):
            self.all_goes_well(50)
            self.reconcile()
            if self.state.phase == Phase.PAUSED and self.state.held:
                world.action = "resume"
        assert self.state.phase in {Phase.IDLE, Phase.FAILED}, (self.state.phase, self.state.message)
        failed = self.state.failed(world.desired)
        assert bool(failed) or self.state.stable_version == world.desired == world.stable_version
        assert world.canary_version is None
        assert world.route is None or world.route.canary is None


def answers(counters: dict[str, float]) -> float:
    """Return how many requests the canary's arm of one pod has counted."""
    return sum(value for key, value in counters.items() if key.startswith("canary/outcome/"))


def count(counters: dict[str, float], requests: int, *, good: bool) -> None:
    """Let each stable pod count some requests of both arms; scores spread evenly."""
    for arm in ("stable", "canary"):
        bad = arm == "canary" and not good
        counters[f"{arm}/outcome/{'error' if bad else 'ok'}"] = (
            counters.get(f"{arm}/outcome/{'error' if bad else 'ok'}", 0.0) + requests
        )
        for bound in (0.05, float("inf")):
            counters[f"{arm}/seconds/{bound}"] = counters.get(f"{arm}/seconds/{bound}", 0.0) + requests
        for tenth in range(1, 11):
            key = f"{arm}/score/{tenth / 10}"
            counters[key] = counters.get(key, 0.0) + requests * tenth / 10
        if arm == "canary":
            counters["pairs/same"] = counters.get("pairs/same", 0.0) + requests
        counters[f"{arm}/decision/approve"] = counters.get(f"{arm}/decision/approve", 0.0) + requests


TestPromotion = Promotion.TestCase
TestPromotion.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
