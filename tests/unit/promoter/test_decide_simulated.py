"""Invariants of decisions in a simulated cluster and registry, driven by a state machine."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from promoter.api.route import LEAD_SECONDS, Route
from promoter.api.rules import parse_spec
from promoter.api.spec import Spec, Strategy
from promoter.api.status import ArtifactCopy, InForce, Phase, State, Verdict
from promoter.decision.actions import (
    Action,
    ApplyCanary,
    ApplyRoute,
    ClearAction,
    DeleteArtifacts,
    DeleteCanary,
    DisableScaleIn,
    KeepArtifacts,
    RestoreScaleIn,
    SetStableVersion,
)
from promoter.decision.artifacts import with_problem
from promoter.decision.decide import decide
from promoter.decision.observation import (
    AutoscalerView,
    CanaryView,
    Observation,
    PodReading,
    RegistryView,
    StableView,
)
from promoter.decision.timeline import Origin, Turn, in_force_by, note_changes

MIN_SAMPLES = 20
LOW, HIGH = {"weight": 10, "duration": "10s"}, {"weight": 50, "duration": "10s"}
SHORT_PAUSE = {"pause": {"duration": "5s"}}


def spec_with(
    steps: list[dict[str, Any]] | None = None, interval: str = "5s", choice: str = "Wait", **more: Any
) -> Spec:
    analysis = {"interval": interval, "minSamples": MIN_SAMPLES, "failureLimit": 2, "onInsufficientData": choice}
    listed = {"steps": steps} if steps else {}
    return parse_spec({"model": {"name": "credit-risk"}, "analysis": analysis, "progressDeadlineSeconds": 60, **listed,
                       **more})  # fmt: skip


SPECS = [
    spec_with([LOW, SHORT_PAUSE, HIGH]),
    spec_with([{"pause": {"duration": "20s"}}, LOW, HIGH, SHORT_PAUSE], choice="Pause"),
    spec_with([LOW, HIGH], interval="30s", shadow={"duration": "10s", "percent": 50}, rollbackWindow=0),
    spec_with([LOW, SHORT_PAUSE], interval="30s", canary={"replicas": 1}),
    spec_with([LOW], auto={"minDuration": "20s", "maxDuration": "2m"}),
    spec_with(strategy="BlueGreen", blueGreen={"observe": "10s", "keepFor": "60s"}, shadow={"duration": "5s"}),
    spec_with(strategy="BlueGreen", blueGreen={"observe": "20s"}, interval="30s", choice="Pause", rollbackWindow=0),
    spec_with(strategy="Experiment", experiment={"weight": 50, "duration": "30s"}),
    spec_with(strategy="Experiment", experiment={"weight": 20, "duration": "10s"}, shadow={}, choice="Proceed"),
]
GUIDE = (Path(__file__).parents[3] / "docs" / "promotion.md").read_text()
ARROWS = set(re.findall(r"^ +(\w+) --> (\w+)", GUIDE, re.MULTILINE))
# What a promotion that makes no progress may be waiting for.
PENDING = re.compile(
    r"wait|copying the files|until resumed|suspended|updating the stable pods|not passed|does not exist|no version"
)
VERSIONS = ["1", "2", "3", "4"]


@dataclass
class Environment:
    """A cluster, a registry and their users, as far as decisions depend on them."""

    now: float = 1000.0
    desired: str | None = "2"
    registry_down: bool = False
    stable_version: str | None = "1"
    stable_rolled: bool = True
    canary_version: str | None = None
    canary_ready: bool = False
    canary_replicas: int = 0
    # How many canary pods the cluster has room for.
    room: int = 2
    canary_failure: str = ""
    route: Route | None = None
    seen_generation: int = 0
    pods: int = 2
    action: str = ""
    counters: dict[str, float] = field(default_factory=dict)
    # The object store is down though the registry answers; versions that are too large; the ConfigMaps that exist.
    store_down: bool = False
    too_large: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)
    # The autoscaler's policy, what the operator recorded to restore, and what whoever made it last wanted.
    policy: str = "Max"
    recorded_policy: str | None = None
    wanted_policy: str = "Max"
    stable_maps: tuple[str, ...] = ()
    canary_maps: tuple[str, ...] = ()

    def observe(self) -> Observation:
        return Observation(
            registry=RegistryView(error="down") if self.registry_down else RegistryView(self.desired),
            stable=StableView(True, self.stable_version, self.stable_rolled, "template", "0/2", wanted=2,
                              available=min(self.pods, 2), config_maps=self.stable_maps,
                              outdated=() if self.stable_rolled else ("pod-0",)),
            canary=CanaryView(self.canary_version, "template" if self.canary_version else "", self.canary_replicas,
                              min(self.canary_replicas, self.room) if self.canary_ready else 0, "pulling",
                              self.canary_failure, self.canary_maps),
            route=self.route,
            pods=tuple(PodReading(f"pod-{n}", 0.0, self.seen_generation, self.counters) for n in range(self.pods)),
            action=self.action,
            artifacts=frozenset(self.copies),
            autoscalers=(AutoscalerView("scoring", self.policy == "Disabled", self.recorded_policy is not None,
                                        self.policy_to_restore()),),
        )  # fmt: skip

    def policy_to_restore(self) -> str:
        """Return what the adapter reads: the recorded policy, unless somebody set another one since."""
        recorded = self.recorded_policy if self.policy == "Disabled" else None
        return self.policy if recorded is None else recorded

    def act(self, action: Action) -> None:
        match action:
            case ApplyRoute(route):
                self.route = route
            case ApplyCanary(version, replicas, config_maps):
                self.canary_replicas = replicas
                if (version, config_maps) != (self.canary_version, self.canary_maps):
                    self.canary_version, self.canary_ready, self.canary_failure = version, False, ""
                    self.canary_maps = config_maps
            case DeleteCanary():
                self.canary_version, self.canary_ready, self.canary_failure = None, False, ""
                self.canary_maps, self.canary_replicas = (), 0
            case SetStableVersion(version, config_maps):
                if (version, config_maps) != (self.stable_version, self.stable_maps):
                    self.stable_version, self.stable_rolled, self.stable_maps = version, False, config_maps
            case DisableScaleIn() | RestoreScaleIn():
                self.set_policy(action)
            case DeleteArtifacts(config_maps):
                self.copies -= set(config_maps)
            case ClearAction(value):
                self.action = "" if self.action == value else self.action

    def set_policy(self, action: DisableScaleIn | RestoreScaleIn) -> None:
        disables = isinstance(action, DisableScaleIn)
        self.policy, self.recorded_policy = ("Disabled", action.policy) if disables else (action.policy, None)

    def keep(self, state: State, version: str) -> State:
        """Copy a version's files as far as that works now, and return the state that reports it."""
        if self.registry_down or self.store_down:
            return with_problem(state, version, "RegistryUnavailable", "down", self.now)
        if version in self.too_large:
            return with_problem(state, version, "TooLarge", "9 MiB", self.now)
        self.copies.add(name_of(version))
        copy = ArtifactCopy(version=version, digests={}, config_maps=(name_of(version),))
        others = (found for found in state.artifacts if found.version != version)
        return state.model_copy(update={"artifacts": (copy, *others)})


class Promotion(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.environment = Environment()
        self.spec = SPECS[0]
        self.state = State()
        self.retried: set[str] = set()
        self.answers_at_start = 0.0

    @initialize(spec=st.sampled_from(SPECS), stable=st.sampled_from(["1", None]))
    def begin(self, spec: Spec, stable: str | None) -> None:
        self.spec, self.environment.stable_version = spec, stable

    def reconcile(self, executed: int | None = None) -> None:
        """Decide and act; `executed` limits the actions, as if the operator were killed."""
        before, environment = self.state, self.environment
        decision = decide(self.spec, 1, before, environment.observe(), environment.now)
        self.check(before, decision.state, decision.actions)
        turn = Turn(decision.state, decision.judgment, decision.performed)
        noted = note_changes(before, turn, Origin("bank/loans/u-1", "credit-risk"), environment.now)
        self.check_timeline(before, noted)
        delivered = noted.timeline.model_copy(update={"pending": ()})
        # The state goes through the status and back, as across a restart.
        self.state = State.model_validate(noted.model_copy(update={"timeline": delivered}).to_document())
        for action in decision.actions[:executed]:
            if isinstance(action, KeepArtifacts):
                self.state = State.model_validate(environment.keep(self.state, action.version).to_document())
            else:
                environment.act(action)
        if executed is not None:
            for action in decision.actions[executed : executed + 1]:
                if isinstance(action, KeepArtifacts):
                    # Killed after the ConfigMaps were created, and before the status said so.
                    environment.keep(self.state, action.version)

    @rule(turns=st.integers(1, 25), requests=st.sampled_from([0, 30]))
    def all_goes_well_for_a_while(self, turns: int, requests: int) -> None:
        """Get far into a rollout, which chance alone rarely does."""
        self.environment.pods = max(self.environment.pods, 1)
        for _ in range(turns):
            self.all_goes_well(requests)
            self.reconcile()

    @rule(seconds=st.sampled_from([1, 3, 6, 70]))
    def the_operator_is_killed_as_a_weight_increases(self, seconds: int) -> None:
        """The larger weight is decided, but not written before the next operator starts."""
        weight = self.state.route.weight
        for _ in range(25):
            self.all_goes_well(30)
            unwritten = copy.deepcopy(self.environment)
            self.reconcile()
            if self.state.route.weight > weight:
                self.environment = unwritten
                break
        self.environment.now += seconds
        self.reconcile()

    def all_goes_well(self, requests: int) -> None:
        environment = self.environment
        environment.now += 3
        environment.stable_rolled, environment.store_down = True, False
        environment.canary_ready = environment.canary_version is not None and not environment.canary_failure
        environment.seen_generation = environment.route.generation if environment.route else 0
        count(environment.counters, requests, good=True)

    def check(self, before: State, after: State, actions: tuple[Action, ...]) -> None:
        environment = self.environment
        for action in actions:
            if isinstance(action, ApplyRoute) and action.route.canary:
                assert environment.canary_ready, "requests are routed to a version that is not ready"
                assert action.route.canary.version == environment.canary_version
                late = action.route.canary.effective_at - environment.now < LEAD_SECONDS / 2
                increases = after.verified_weight < action.route.canary.weight and action.route.canary.mode == "live"
                assert not (increases and late), "a larger weight takes effect before the pods could receive it"
            if isinstance(action, ApplyCanary):
                failed_before = before.failed(action.version)
                assert not failed_before or action.version in self.retried, "a failed version is tried unasked"
            self.check_update(action, after)
            self.check_artifacts(action, after)
        self.check_autoscaler(before, after, actions)
        self.check_strategy(before, after)
        if after.route.weight:
            assert environment.canary_ready, "a version that is not ready has a weight"
            assert environment.canary_version == after.canary_version
        if after.phase == Phase.STARTING and before.phase != Phase.STARTING:
            self.answers_at_start = answers(environment.counters)
        left = before.phase in {Phase.PROGRESSING, Phase.PAUSED}
        if left and after.phase == Phase.PROMOTING and not self.environment.action:
            assert after.analysis is not None
            assert after.analysis.verdict == Verdict.SUCCESSFUL
            assert all(result.samples >= MIN_SAMPLES for result in after.analysis.results)
            most = 3 * (answers(environment.counters) - self.answers_at_start)
            assert most >= MIN_SAMPLES, "promoted with fewer samples than needed"
        assert before.phase == after.phase or (before.phase, after.phase) in ARROWS, (
            "the diagram in the guide lacks an arrow"
        )
        if after.stable_version != before.stable_version and before.stable_version is not None:
            assert environment.stable_version == after.stable_version, "recorded as stable too early"
            assert environment.stable_rolled
        if after.phase != Phase.IDLE:
            assert after.message, "stuck without a reason"
        self.retried -= {entry.version for entry in after.failed_versions if entry not in before.failed_versions}
        if len(after.failed_versions) < len(before.failed_versions):
            self.retried |= {e.version for e in before.failed_versions} - {e.version for e in after.failed_versions}

    def check_strategy(self, before: State, after: State) -> None:
        """No applicant is sent back before the end of a rollout, and each strategy does what it says."""
        weights = [state.route.weight if state.route.mode == "live" else 0 for state in (before, after)]
        steps = {Phase.PROGRESSING, Phase.PAUSED}
        if before.phase in steps and after.phase in steps | {Phase.PROMOTING} and self.environment.canary_ready:
            assert weights[0] <= weights[1], "applicants are sent back to the champion in mid-rollout"
        if self.spec.strategy == Strategy.BLUE_GREEN:
            assert weights[1] in {0, 100}, "not all applicants are switched at once"
        if self.spec.strategy == Strategy.EXPERIMENT:
            assert self.spec.experiment is not None
            assert after.phase == Phase.PROMOTING or weights[1] <= self.spec.experiment.weight
            returns = before.stable_history[: self.spec.rollback_window]
            if before.stable_version is not None and after.phase == Phase.PROMOTING != before.phase:
                assert after.canary_version in returns, "an experiment promotes its version"
            begins = before.phase == Phase.IDLE and after.phase == Phase.STARTING
            repeated = begins and after.canary_version == before.completed_version
            assert not repeated, "an experiment is repeated unasked"

    def check_timeline(self, before: State, after: State) -> None:
        """The newest event says what is in force, whatever happened; and what did not change is not repeated."""
        old, new = before.timeline, after.timeline
        added = [entry for entry in new.pending if entry.at > (old.recorded_at or 0.0)]
        assert (new.recorded or InForce()) == in_force_by(after), "the timeline does not know what answers"
        assert all(InForce.model_validate(entry.model_dump()) == new.recorded for entry in added)
        assert bool(added) == (new != old)
        assert len({entry.id for entry in added}) == len(added)
        ended = [entry.kind for entry in added if entry.kind in {"Promoted", "RolledBack", "Stopped", "Completed"}]
        assert len(ended) <= 1
        if after.history[:1] != before.history[:1]:
            assert ended == [after.history[0].outcome]
        if after.verified_weight != before.verified_weight and after.canary_version not in {None, after.stable_version}:
            assert added, "a weight changed unnoticed"

    @rule(seconds=st.sampled_from([1, 3, 6, 12, 70]))
    def time_passes(self, seconds: int) -> None:
        self.environment.now += seconds
        self.reconcile()

    @rule(executed=st.integers(0, 4))
    def the_operator_is_killed_in_the_middle_of_its_actions(self, executed: int) -> None:
        self.reconcile(executed)

    def check_update(self, action: Action, after: State) -> None:
        """With room for its pods, the canary answers everybody before the stable pods change to its version."""
        environment, route = self.environment, self.environment.route
        version = action.version if isinstance(action, SetStableVersion) else None
        if version in {None, environment.stable_version}:
            return
        waited = environment.now - (after.phase_started_at or 0.0)
        room = environment.canary_ready and environment.room >= 2 and environment.pods
        if version != environment.canary_version or not room or waited >= self.spec.progress_deadline_seconds / 4:
            return
        assert route is not None
        assert route.canary is not None
        assert (route.canary.weight, route.canary.mode) == (100, "live")
        assert environment.now >= route.canary.effective_at
        assert environment.seen_generation == route.generation

    def check_autoscaler(self, before: State, after: State, actions: tuple[Action, ...]) -> None:
        """Whenever a rollback may have to fall back on the stable pods, they are not scaled in."""
        environment = self.environment
        weight_before = before.route.weight if before.phase not in {Phase.IDLE, Phase.FAILED} else 0
        if after.route.weight and not weight_before:
            assert environment.policy == "Disabled", "the canary gets requests while the stable pods may be scaled in"
        if before.route.weight or after.route.weight:
            assert not any(isinstance(action, RestoreScaleIn) for action in actions), "restored before the rollback"
            disables = any(isinstance(action, DisableScaleIn) for action in actions)
            assert environment.policy == "Disabled" or disables, "a policy that was changed is left alone"

    def check_artifacts(self, action: Action, after: State) -> None:
        """No pod template loses its version or its copy, and none changes for nothing."""
        environment = self.environment
        if isinstance(action, SetStableVersion):
            own = (name_of(action.version),)
            assert action.version, "the stable pods lose their version"
            assert action.config_maps in {(), own}, "the stable pods get the files of another version"
            if action.version == environment.stable_version:
                assert not environment.stable_maps, "stable pods restart though they have the copy"
                assert set(own) <= environment.copies, "stable pods restart without a copy to gain"
        if isinstance(action, ApplyCanary) and action.version != environment.canary_version:
            problem = after.artifacts_problem
            permanent = problem and problem.version == action.version and problem.reason != "RegistryUnavailable"
            assert permanent or set(action.config_maps) == {name_of(action.version)} & environment.copies != set(), (
                "a canary starts before its files are copied"
            )
        if isinstance(action, DeleteArtifacts):
            mounted = {*environment.stable_maps, *environment.canary_maps}
            needed = {name_of(version) for version in (after.stable_version, after.canary_version) if version}
            assert not set(action.config_maps) & (mounted | needed), "a copy is deleted that a pod may want"

    @rule(version=st.sampled_from([*VERSIONS, None]))
    def the_pointer_moves(self, version: str | None) -> None:
        self.environment.desired = version
        self.reconcile()

    @rule(down=st.booleans())
    def the_registry_comes_and_goes(self, down: bool) -> None:
        self.environment.registry_down = down
        self.reconcile()

    @rule(down=st.booleans())
    def the_object_store_comes_and_goes(self, down: bool) -> None:
        self.environment.store_down = down
        self.reconcile()

    @rule(version=st.sampled_from(VERSIONS))
    def the_copy_of_a_version_is_deleted(self, version: str) -> None:
        self.environment.copies.discard(name_of(version))
        self.reconcile()

    @rule(version=st.sampled_from(VERSIONS))
    def a_version_turns_out_to_be_too_large(self, version: str) -> None:
        if name_of(version) not in self.environment.copies:
            self.environment.too_large.add(version)
        self.reconcile()

    @precondition(lambda self: self.environment.canary_version)
    @rule(ready=st.booleans())
    def canary_pods_come_and_go(self, ready: bool) -> None:
        self.environment.canary_ready = ready and not self.environment.canary_failure
        self.reconcile()

    @precondition(lambda self: self.environment.canary_version)
    @rule()
    def the_canary_crashes(self) -> None:
        self.environment.canary_ready, self.environment.canary_failure = False, "CrashLoopBackOff"
        self.reconcile()

    @rule()
    def the_stable_pods_roll(self) -> None:
        self.environment.stable_rolled = True
        self.reconcile()

    @rule()
    def the_stable_pods_see_the_route(self) -> None:
        self.environment.seen_generation = self.environment.route.generation if self.environment.route else 0
        self.reconcile()

    @rule(policy=st.sampled_from(["Max", "Min", "Disabled"]))
    def helm_changes_the_autoscaler(self, policy: str) -> None:
        """Setting what the operator set meanwhile is no change that could be noticed."""
        environment = self.environment
        if policy != "Disabled" or environment.recorded_policy is None:
            environment.policy = environment.wanted_policy = policy
        self.reconcile()

    @rule(pods=st.integers(0, 3))
    def stable_pods_come_and_go(self, pods: int) -> None:
        self.environment.pods = pods
        self.reconcile()

    @rule(room=st.integers(1, 3))
    def room_for_canary_pods_changes(self, room: int) -> None:
        self.environment.room = room
        self.reconcile()

    @rule(good=st.booleans(), requests=st.sampled_from([3, 30, 300]))
    def requests_arrive(self, good: bool, requests: int) -> None:
        count(self.environment.counters, requests, good=good)
        self.reconcile()

    @rule(action=st.sampled_from(["resume", "abort", "promote", "skip-step", "retry", "dance"]))
    def a_user_requests_a_manual_action(self, action: str) -> None:
        self.environment.action = action
        self.reconcile()

    @invariant()
    def weights_are_only_trusted_when_seen(self) -> None:
        if self.state.verified_weight and self.environment.pods:
            assert self.state.route.generation > 0

    def stand_still(self) -> None:
        """Let only time pass: the promotion comes to rest, or its message says what it is waiting for."""
        kept = copy.deepcopy(self.environment), self.state, set(self.retried)
        for _ in range(200):
            self.environment.now += 3
            self.reconcile()
        assert self.state.phase in {Phase.IDLE, Phase.FAILED} or PENDING.search(self.state.message), self.state.message
        self.environment, self.state, self.retried = kept

    def teardown(self) -> None:
        """Whatever happened: if everything works from now on, the promotion comes to rest at the pointer."""
        self.stand_still()
        environment = self.environment
        environment.registry_down, environment.action, environment.pods = False, "", 2
        environment.desired = environment.desired or "1"
        for _ in range(400):
            self.all_goes_well(50)
            self.reconcile()
            if self.state.phase == Phase.PAUSED and self.state.paused_for_data:
                environment.action = "resume"
        assert self.state.phase in {Phase.IDLE, Phase.FAILED}, (self.state.phase, self.state.message)
        failed = self.state.failed(environment.desired)
        completed = self.spec.strategy == Strategy.EXPERIMENT and self.state.completed_version == environment.desired
        promoted = self.state.stable_version == environment.desired == environment.stable_version
        assert failed or completed or promoted
        assert environment.canary_version is None
        assert environment.route is None or environment.route.canary is None
        environment.now += 200
        self.reconcile()
        assert (environment.policy, environment.recorded_policy) == (environment.wanted_policy, None)
        stable, previous = self.state.stable_version or "", self.state.stable_history[:1]
        if stable not in environment.too_large:
            assert environment.stable_maps == (name_of(stable),), "the stable pods have no copy"
            assert set(environment.stable_maps) <= environment.copies
            assert self.state.artifacts_problem is None
        assert environment.copies <= {name_of(version) for version in (stable, *previous)}, "copies are left over"


def name_of(version: str) -> str:
    """Return the name of the ConfigMap with a version's files."""
    return f"model-{version}"


def answers(counters: dict[str, float]) -> float:
    """Return the number of canary requests that one pod has counted."""
    return sum(value for key, value in counters.items() if key.startswith("canary/outcome/"))


def count(counters: dict[str, float], requests: int, *, good: bool) -> None:
    """Let each stable pod count some requests of both arms, with evenly spread scores."""
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
            counters["pair/decision/both_approve"] = counters.get("pair/decision/both_approve", 0.0) + requests
        counters[f"{arm}/decision/approve"] = counters.get(f"{arm}/decision/approve", 0.0) + requests


TestPromotion = Promotion.TestCase
TestPromotion.settings = settings(stateful_step_count=40)
