"""Rollouts through the operator's real decisions in a simulated cluster, with a timeline of what should be in force."""

from __future__ import annotations

from promoter.api.status import Phase, State
from promoter.decision.actions import KeepArtifacts
from promoter.decision.decide import decide
from promoter.decision.timeline import Origin, Turn, in_force_by, note_changes
from promoter.outbox import Outbox
from unit.promoter.fakes import OWNER
from unit.promoter.test_decide_simulated import Environment, count, spec_with

# stable version, canary version, weight, mode
Versions = tuple[str | None, str | None, int, str]


class Rollouts:
    """One ModelPromotion with two steps and a pause between them, version 1 being stable.

    `in_force` is what the stable pods apply according to the simulated cluster, not to the events.
    """

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self.environment = Environment(now=start, desired="1")
        self.spec = spec_with([{"weight": 10, "duration": "10s"}, {"pause": {}}, {"weight": 50, "duration": "10s"}])
        self.state = State()
        self.outbox: Outbox | None = None
        self.in_force: list[Versions] = []
        self.good = True
        self.until(Phase.IDLE)

    def turn(self) -> None:
        """Observe, decide, note, store, act: as reconcile does, with a status that goes through its document."""
        environment = self.environment
        environment.now += 3
        environment.stable_rolled = True
        environment.canary_ready = environment.canary_version is not None
        environment.seen_generation = environment.route.generation if environment.route else 0
        count(environment.counters, 30, good=self.good)
        known = self.outbox.without_delivered(OWNER, self.state) if self.outbox else self.state
        decision = decide(self.spec, 1, known, environment.observe(), environment.now)
        turn = Turn(decision.state, decision.judgment, decision.performed)
        origin = Origin(f"{OWNER}/{OWNER.uid}", "credit-risk", "training run 4f", "annotation by kubectl")
        self.state = note_changes(known, turn, origin, environment.now)
        self.restart()
        for action in decision.actions:
            if isinstance(action, KeepArtifacts):
                self.state = environment.keep(self.state, action.version)
            else:
                environment.act(action)
        found = in_force_by(self.state)
        versions = (found.stable_version, found.canary_version, found.weight, found.mode)
        if self.in_force[-1:] != [versions] and found.stable_version:
            self.in_force.append(versions)

    def restart(self) -> None:
        """Begin with the stored status, as an operator does that starts again."""
        self.state = State.model_validate(self.state.to_document())

    def until(self, phase: Phase) -> None:
        for _ in range(100):
            if self.state.phase == phase:
                return
            self.turn()
        raise AssertionError(f"never {phase}: {self.state.phase}, {self.state.message}")

    def start(self, version: str) -> None:
        self.environment.desired = version
        self.turn()
        self.until(Phase.PAUSED)

    def act(self, action: str) -> None:
        self.environment.action = action
        self.turn()

    def promote(self, version: str) -> None:
        """Roll a version out; it is paused after the first step, and resumed."""
        self.start(version)
        for _ in range(5):
            self.turn()
        self.act("resume")
        self.until(Phase.IDLE)

    def fail(self, version: str) -> None:
        """Roll a version out that answers with errors after the pause."""
        self.start(version)
        self.good = False
        self.act("resume")
        self.until(Phase.FAILED)
        self.good = True

    def abort(self, version: str) -> None:
        """Roll a version out, and abort that during the pause."""
        self.start(version)
        self.act("abort")
        self.until(Phase.FAILED)
