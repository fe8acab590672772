"""ModelPromotions for the page: in a rollout, at rest, rolled back, and with hostile texts."""

from __future__ import annotations

from typing import Any

from promoter.api.resource import Owner
from promoter.api.status import (
    AnalysisResult,
    Condition,
    FailedVersion,
    HistoryEntry,
    MetricResult,
    Phase,
    RouteState,
    State,
    Verdict,
)
from promoter.api.timestamps import to_text
from promoter.decision.observation import CanaryView, StableView
from promoter.decision.timeline import Turn
from promoter.page.board import Board
from promoter.page.records import Record
from promoter.ports import Pod, Snapshot
from promoter.promotion import Promotion

START = 1_800_000_000.0
SPEC: dict[str, Any] = {
    "model": {"name": "credit-risk", "alias": "production"},
    "steps": [{"weight": 5, "duration": "5m"}, {"weight": 25, "duration": "5m"}, {"pause": {}},
              {"weight": 50, "duration": "10m"}],
}  # fmt: skip
HOSTILE = '<script>document.title="taken"</script><img src=x onerror=alert(1)> "\'& \u202egnp.exe'
# Name, limit and value of each.
_CHECKS = (("ErrorRate", 0.02, 0.004), ("LatencyP99", 2.0, 1.1), ("ScorePSI", 0.2, 0.03),
           ("DecisionShift", 0.05, 0.061), ("SegmentShift", 0.1, 0.04))  # fmt: skip


class Clock:
    """The time that the page shows, in seconds since 1970."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def pod(name: str, *, ready: bool = True, started_at: float = START - 7200, generation: int = 4) -> Pod:
    return Pod(name, "10.0.0.1", 9090, ready=ready, started_at=started_at, route_generation=generation)


SNAPSHOT = Snapshot(
    stable=StableView(exists=True, version="7", wanted=2, available=2),
    canary=CanaryView(version="8", replicas=1, ready=1),
    stable_pods=(pod("scoring-6c9f7d-2xk4p"), pod("scoring-6c9f7d-9qrtz", generation=3)),
    canary_pods=(pod("scoring-canary-5b8d4-hh2vw", started_at=START - 552),),
)


def promotion(name: str, state: State, spec: dict[str, Any] | None = None, namespace: str = "credit-risk") -> Promotion:
    metadata = {"namespace": namespace, "name": name, "uid": f"u-{name}", "generation": 3}
    return Promotion(Owner(namespace, name, f"u-{name}"), {"metadata": metadata, "spec": spec or SPEC}, state)


def resting(now: float = START) -> State:
    return State(
        phase=Phase.IDLE, target="scoring", stable_version="7", desired_version="7", observed_generation=3,
        message="version 7 is stable", phase_started_at=now - 90_000,
        history=(HistoryEntry(version="7", outcome="Promoted", reason="Promoted", at=START - 90_000),
                 HistoryEntry(version="6", outcome="RolledBack", reason="AnalysisFailed", at=START - 200_000)),
    )  # fmt: skip


def progressing(now: float = START, **changes: Any) -> State:
    state = resting(now).model_copy(update={
        "phase": Phase.PROGRESSING, "canary_version": "8", "desired_version": "8", "step_index": 1, "step": "2/4",
        "weight": 25, "verified_weight": 25, "phase_started_at": now - 131, "step_started_at": now - 122,
        "route": RouteState(generation=4, stable_version="7", canary_version="8", weight=25),
        "message": "step 2/4: live 25 % for 300 s; Inconclusive: decision shift 0.061 (0.011 to 0.113) > 0.05 over 212 "
        "pairs, which may be chance",
    })  # fmt: skip
    return state.model_copy(update=changes)


def judgment(at: float, progress: float, *, failed: bool = False) -> AnalysisResult:
    """Return an analysis; with progress from 0 to 1, bounds get narrower."""
    results = []
    for name, limit, value in _CHECKS:
        wide = limit * (1.6 - 1.3 * progress)
        verdict = Verdict.SUCCESSFUL if value + wide < 2 * limit and value < limit else Verdict.INCONCLUSIVE
        if failed and name == "DecisionShift":
            verdict = Verdict.FAILED
        shown = value * (1 + 0.25 * ((at / 30) % 3 - 1) * (1.2 - progress))
        results.append(MetricResult(
            name=name, verdict=verdict, value=shown, limit=limit, lower=max(0.0, shown - wide), upper=shown + wide,
            samples=round(20 + 900 * progress), message=f"{name} {shown:.3f} over {round(20 + 900 * progress)} pairs",
        ))  # fmt: skip
    worst = Verdict.FAILED if failed else Verdict.INCONCLUSIVE
    return AnalysisResult(verdict=worst, at=at, results=tuple(results))


def failed_state(now: float = START) -> State:
    message = "decision shift 0.156 (0.100 to 0.222) > 0.05 over 500 pairs"
    return resting(now).model_copy(update={
        "phase": Phase.FAILED, "desired_version": "8", "analysis": judgment(now - 300, 1, failed=True),
        "message": f"version 8 failed: AnalysisFailed: {message}",
        "failed_versions": (FailedVersion(version="8", reason="AnalysisFailed", message=message, at=now - 290),),
        "conditions": (Condition(type="Degraded", status="True", reason="AnalysisFailed", message=message,
                                 last_transition_time=to_text(now - 290)),),
        "history": (HistoryEntry(version="8", outcome="RolledBack", reason="AnalysisFailed", at=now - 290),
                    *resting(now).history),
    })  # fmt: skip


def hostile_state(now: float = START) -> State:
    return progressing(now, message=HOSTILE, stable_version=HOSTILE, canary_version=HOSTILE, conditions=(
        Condition(type="Degraded", status="True", reason="Refused", message=HOSTILE, last_transition_time=to_text(now)),
    ))  # fmt: skip


def roll_out(board: Board, clock: Clock, shown: Promotion, analyses: int = 24) -> None:
    """Let a promotion at rest start a rollout and be analyzed, an analysis each 30 s."""
    board.show(shown)
    move(board, shown, State.model_copy(shown.state, update={
        "phase": Phase.STARTING, "canary_version": "8", "desired_version": "8", "phase_started_at": clock.now,
        "message": "version 8 is rolled out",
    }))  # fmt: skip
    for number in range(analyses):
        clock.now += 30
        found = judgment(clock.now, (number + 1) / analyses)
        move(board, shown, progressing(clock.now, analysis=found, analyzed_at=clock.now), found)


def move(
    board: Board, shown: Promotion, state: State, found: AnalysisResult | None = None, performed: str = ""
) -> None:
    """Take a turn that decided a state."""
    before, shown.state = shown.state, state
    board.turned(shown, before, Turn(state, found, performed), SNAPSHOT)
    board.show(shown)


def record_of(board: Board, namespace: str, name: str) -> Record:
    return board._shown[namespace, name].record
