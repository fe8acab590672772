"""ModelPromotions, Deployments and pods as a cluster has them in the middle of a rollout from version 7 to 8."""

from __future__ import annotations

import time
from typing import Any

from promoter.api.resource import VERSION_ANNOTATION
from promoter.api.status import (
    AnalysisResult,
    Arm,
    Condition,
    ExperimentReport,
    FailedVersion,
    HistoryEntry,
    Measurement,
    MetricResult,
    Phase,
    RouteState,
    State,
    Verdict,
)
from promoter.api.timestamps import to_text

Document = dict[str, Any]
SPEC: Document = {
    "model": {"name": "credit-risk", "alias": "production"},
    "steps": [{"weight": 5, "duration": "5m"}, {"weight": 25, "duration": "5m"}, {"pause": {}},
              {"weight": 50, "duration": "10m"}],
    "analysis": {"interval": "30s", "minSamples": 100},
}  # fmt: skip
SHIFT = MetricResult(name="DecisionShift", verdict=Verdict.FAILED, value=0.091, limit=0.05, samples=1060,
                     message="decision shift 0.091 > 0.05 over 1060 requests")  # fmt: skip
ERRORS = MetricResult(name="ErrorRate", verdict=Verdict.SUCCESSFUL, value=0.001, limit=0.02, samples=1060,
                      message="error rate 0.001 <= 0.02 over 1060 requests")  # fmt: skip


def state_in(phase: Phase, **changes: Any) -> State:
    """Return a state during the rollout of version 8, champion 7."""
    now = time.time()
    live = phase in {Phase.PROGRESSING, Phase.PAUSED}
    index = {Phase.PAUSED: 2}.get(phase, 1)
    state = State(
        phase=phase, observed_generation=3, target="scoring", stable_version="7", canary_version="8",
        desired_version="8", step_index=index, step=f"{index + 1}/4" if live else "", weight=25 if live else 0,
        verified_weight=25 if live else 0, phase_started_at=now - 130, step_started_at=now - 120 if live else None,
        analyzed_at=now - 10 if live else None, message=f"the message of {phase}", stable_history=("6", "5"),
        route=RouteState(generation=4, stable_version="7", canary_version="8", weight=25 if live else 0),
        history=(HistoryEntry(version="7", outcome="Promoted", reason="Promoted", at=now - 90_100),),
    )  # fmt: skip
    return state.model_copy(update=changes)


def analyzed(verdict: Verdict = Verdict.SUCCESSFUL, *results: MetricResult) -> AnalysisResult:
    """Return an analysis of ten seconds ago."""
    return AnalysisResult(verdict=verdict, at=time.time() - 10, results=results or (ERRORS,))


def failed_state(reason: str = "AnalysisFailed", **changes: Any) -> State:
    """Return the state after version 8 was rolled back."""
    now = time.time()
    failed = FailedVersion(version="8", reason=reason, message=SHIFT.message, at=now - 300)
    ended = HistoryEntry(version="8", outcome="RolledBack", reason=reason, at=now - 300)
    state = state_in(Phase.FAILED, canary_version=None, failed_versions=(failed,), history=(ended,),
                     analysis=analyzed(Verdict.FAILED, SHIFT, ERRORS))  # fmt: skip
    return state.model_copy(update=changes)


EXPERIMENT: Document = {"steps": None, "strategy": "Experiment", "experiment": {"weight": 30, "duration": "2d"}}
REPORT = ExperimentReport(
    champion_version="7", weight=30, started_at=1_800_000_000.0,
    champion=Arm(answers=7000, decline_rate=0.2, p99_milliseconds=3.1),
    challenger=Arm(answers=3000, decline_rate=0.21, p99_milliseconds=3.4),
    measured=(Measurement(name="change of the decline rate", value=0.012, lower=0.004, upper=0.02, samples=2950,
                          paired=True),
              Measurement(name="error rate", value=0.001, lower=0.0, upper=0.003, samples=3003)),
    segments=(Measurement(name="gender/female", value=0.02, lower=0.001, upper=0.04, samples=1400, paired=True),),
    segments_left_out=3,
)  # fmt: skip


def completed_state(**changes: Any) -> State:
    """Return the state after an experiment of two days with version 8."""
    ended = HistoryEntry(version="8", outcome="Completed", reason="Completed", at=1_800_172_800.0, report=REPORT)
    state = state_in(Phase.IDLE, canary_version=None, completed_version="8", history=(ended,))
    return state.model_copy(update=changes)


def condition(kind: str, status: Any, reason: str, message: str) -> Condition:
    """Return a condition."""
    return Condition(type=kind, status=status, reason=reason, message=message,
                     last_transition_time="2026-11-28T12:00:00Z", observed_generation=3)  # fmt: skip


def document(state: State, name: str = "loans", namespace: str = "bank", action: str = "", **spec: Any) -> Document:
    """Return a ModelPromotion as the API server has it; a field of the spec that is None is left out."""
    annotations = {"creditrisk.io/action": action} if action else {}
    return {
        "apiVersion": "creditrisk.io/v1alpha1",
        "kind": "ModelPromotion",
        "metadata": {"name": name, "namespace": namespace, "uid": f"u-{name}", "generation": 3,
                     "creationTimestamp": "2026-11-01T00:00:00Z", "annotations": annotations},
        "spec": {name: value for name, value in {**SPEC, **spec}.items() if value is not None},
        "status": state.to_document(),
    }  # fmt: skip


def deployment(name: str, version: str, *, wanted: int = 2, available: int = 2) -> Document:
    """Return a Deployment; its pods have its name as their label."""
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"annotations": {VERSION_ANNOTATION: version}}},
        },
        "status": {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": available},
    }


def pod(name: str, version: str, *, ready: bool = True, waiting: str = "") -> Document:
    """Return a pod."""
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {
        "metadata": {"name": name, "annotations": {VERSION_ANNOTATION: version}},
        "status": {
            "phase": "Running",
            "startTime": to_text(time.time() - 7200),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"restartCount": 0 if ready else 3, "state": state}],
        },
    }


def workload_objects() -> dict[str, Document]:
    """Return what the API server has of the two Deployments, by path."""
    apps, core = "/apis/apps/v1/namespaces/bank/deployments", "/api/v1/namespaces/bank/pods"
    return {
        f"{apps}/scoring": deployment("scoring", "7"),
        f"{apps}/scoring-canary": deployment("scoring-canary", "8", wanted=1, available=0),
        f"{core}?app=scoring": {"items": [pod("scoring-a", "7"), pod("scoring-b", "7")]},
        f"{core}?app=scoring-canary": {
            "items": [pod("scoring-canary-x", "8", ready=False, waiting="CrashLoopBackOff")]
        },
    }
