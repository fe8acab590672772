"""One turn: saved before done, the route before all else, faults reported once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from promoter.act import with_outdated_pods
from promoter.api.status import Phase, RouteState, State
from promoter.decision.observation import Observation, PodReading
from promoter.decision.readiness import Readiness, ReadinessCode
from promoter.errors import PermanentError, RetryableError, TargetForbiddenError
from promoter.ports import Snapshot
from promoter.promotion import Promotion
from promoter.reconcile import reconcile, report_fault
from unit.promoter.fakes import COPIES, OWNER, POD, ROLLING_OUT, document, fakes_for, in_first_step

Document = dict[str, Any]


async def test_the_state_is_saved_before_any_action() -> None:
    adapters, cluster, *_ = fakes_for()
    await reconcile(adapters, Promotion(OWNER, document(), State(stable_version="1", phase=Phase.IDLE)))
    assert cluster.calls[:2] == ["snapshot", "save_status"]
    assert cluster.saved[0]["phase"] == "Starting"


async def test_an_abort_drops_the_weight_and_nudges_the_pods_before_all_else() -> None:
    adapters, cluster, registry, _ = fakes_for(ROLLING_OUT)
    registry.fault = RetryableError("the registry is unavailable")
    await reconcile(adapters, Promotion(OWNER, document("abort"), in_first_step()))
    assert cluster.calls[1:4] == ["save_status", "apply_route", "nudge"]
    assert "clear_action" in cluster.calls
    assert cluster.saved[0]["route"]["weight"] == 0


async def test_tags_stay_pending_while_the_registry_is_unavailable() -> None:
    adapters, _, registry, _ = fakes_for(ROLLING_OUT)
    registry.fault = RetryableError("unavailable")
    promotion = Promotion(OWNER, document("abort"), in_first_step())
    await reconcile(adapters, promotion)
    assert "2" in promotion.state.pending_tags
    registry.fault = None
    await reconcile(adapters, promotion)
    assert registry.tags["2"]["creditrisk.io.rollout"] == "rolled-back"
    assert promotion.state.pending_tags == {}


async def test_tags_that_the_registry_refuses_are_reported_and_dropped() -> None:
    adapters, cluster, registry, _ = fakes_for(ROLLING_OUT)
    registry.fault = PermanentError("403")
    promotion = Promotion(OWNER, document("abort"), in_first_step())
    await reconcile(adapters, promotion)
    assert promotion.state.pending_tags == {}
    await reconcile(adapters, promotion)
    assert [event.reason for event in cluster.events] == ["Aborted", "TagRefused"]


async def test_events_that_were_not_recorded_stay_pending_even_if_the_operator_is_killed() -> None:
    adapters, cluster, *_ = fakes_for(ROLLING_OUT)
    cluster.fail = {"record_event"}
    await reconcile(adapters, Promotion(OWNER, document("abort"), in_first_step()))
    assert cluster.events == []
    cluster.fail = set()
    successor = Promotion(OWNER, document(), State.model_validate(cluster.saved[-1]))
    await reconcile(adapters, successor)
    assert [event.reason for event in cluster.events] == ["Aborted"]
    assert successor.state.pending_events == ()
    assert cluster.saved[-1]["pendingEvents"] == []


async def test_refused_events_delay_nothing() -> None:
    adapters, cluster, *_ = fakes_for(ROLLING_OUT)
    cluster.refuse = {"record_event"}
    promotion = Promotion(OWNER, document("abort"), in_first_step())
    await reconcile(adapters, promotion)
    assert promotion.state.pending_events == ()
    assert "clear_action" in cluster.calls


async def test_a_refused_action_is_reported_and_the_status_does_not_alternate() -> None:
    adapters, cluster, *_ = fakes_for()
    cluster.refuse = {"apply_canary"}
    started = State(stable_version="1", canary_version="2", desired_version="2", phase=Phase.STARTING, target="scoring",
                    phase_started_at=time.time(), route=RouteState(generation=1, stable_version="1"),
                    artifacts=COPIES)  # fmt: skip
    promotion = Promotion(OWNER, document(), started)
    await reconcile(adapters, promotion)
    degraded = next(c for c in promotion.state.conditions if c.type == "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "Refused")
    assert promotion.state.message == "waiting for the canary: no pod yet; refused: apply_canary: 403 forbidden"
    saved = len(cluster.saved)
    for _ in range(3):
        await reconcile(adapters, promotion)
    assert len(cluster.saved) == saved
    cluster.refuse = set()
    await reconcile(adapters, promotion)
    await reconcile(adapters, promotion)
    assert "refused" not in promotion.state.message
    assert next(c for c in promotion.state.conditions if c.type == "Degraded").status == "False"


INCOME: Document = {
    "kind": "numeric", "name": "income", "unit": "USD", "minimum": 0, "maximum": 9, "reason_code": "R01",
}  # fmt: skip
CONTRACT: Document = {"format_version": 1, "features": [INCOME]}
WITHOUT_INCOME: Document = {"format_version": 2, "features": [], "ignored": []}


@pytest.mark.parametrize(
    ("contracts", "phase", "words"),
    [
        (({}, {}), Phase.STARTING, "the contracts could not be read from /v1/model"),
        (({"threshold": 1}, CONTRACT), Phase.STARTING,
         "the champion's /v1/model does not return a contract to compare with: contract.format_version: Field"),
        ((CONTRACT, {"threshold": 1}), Phase.ROLLING_BACK,
         "invalid contract: the canary's /v1/model: contract.format_version: Field required"),
        ((CONTRACT, CONTRACT), Phase.PROGRESSING, "step 1/3"),
        ((CONTRACT, {**WITHOUT_INCOME, "ignored": ["income"]}), Phase.PROGRESSING, "step 1/3"),
        ((CONTRACT, WITHOUT_INCOME), Phase.ROLLING_BACK,
         "incompatible contract: income: feature-dropped: clients still send it; list it under `ignored` in the "
         "feature declaration"),
    ],
)  # fmt: skip
async def test_a_canary_gets_no_requests_before_its_contract_is_known_to_be_compatible(
    contracts: tuple[Document, Document], phase: Phase, words: str
) -> None:
    canary = replace(POD, name="scoring-canary-0")
    adapters, _, _, metrics = fakes_for(replace(ROLLING_OUT, canary_pods=(canary,)))
    metrics.contracts = contracts
    starting = in_first_step(phase=Phase.STARTING, weight=0, step="", step_started_at=None)
    promotion = Promotion(OWNER, document(), starting)
    await reconcile(adapters, promotion)
    assert promotion.state.phase == phase
    assert words in promotion.state.message


async def test_a_single_failed_turn_is_not_reported() -> None:
    adapters, cluster, *_ = fakes_for()
    promotion = Promotion(OWNER, document(), State(stable_version="1", phase=Phase.IDLE))
    await report_fault(adapters, promotion, RetryableError("409"))
    assert cluster.saved == []
    cluster.fail = {"save_status"}
    await report_fault(adapters, promotion, RetryableError("409"))
    assert promotion.faults == 2


async def test_objects_of_something_else_block_the_promotion_and_nothing_is_done() -> None:
    adapters, cluster, *_ = fakes_for()
    cluster.refuse = {"snapshot"}
    promotion = Promotion(OWNER, document(), State())
    await reconcile(adapters, promotion)
    assert cluster.calls == ["snapshot", "save_status", "record_event", "save_status"]
    assert {c.reason for c in promotion.state.conditions} == {"Blocked"}


async def test_prometheus_is_queried_only_when_an_analysis_is_due() -> None:
    adapters, _, _, metrics = fakes_for(ROLLING_OUT)
    query = {"type": "Query", "name": "q", "query": "up", "limit": 1}
    spec: Document = {"analysis": {"interval": "10s", "metrics": [query], "prometheusUrl": "http://p"}}
    promotion = Promotion(OWNER, document(**spec), in_first_step())
    await reconcile(adapters, promotion)
    assert metrics.queries == 0
    promotion.state = in_first_step(analyzed_at=time.time() - 11)
    await reconcile(adapters, promotion)
    assert metrics.queries == 1


async def test_verdicts_and_outcomes_are_counted() -> None:
    adapters, *_ = fakes_for(ROLLING_OUT)
    promotion = Promotion(OWNER, document("abort"), in_first_step())
    await reconcile(adapters, promotion)
    labels = {"namespace": "bank", "name": "loans"}
    value = adapters.telemetry.registry.get_sample_value
    assert value("promoter_rollouts_total", {**labels, "outcome": "RolledBack"}) == 1
    promotion = Promotion(OWNER, document(), in_first_step(analyzed_at=0.0))
    await reconcile(adapters, promotion)
    assert value("promoter_verdicts_total", {**labels, "verdict": "Inconclusive"}) == 1


def test_a_pod_that_reports_an_older_route_is_nudged_again() -> None:
    observed = Observation(pods=(PodReading("scoring-0", generation=4), PodReading("scoring-1", generation=5)))
    pods = (replace(POD, route_generation=5), replace(POD, name="scoring-1", route_generation=5))
    behind = with_outdated_pods(Snapshot(stable_pods=pods), observed, 5)
    assert [pod.route_generation for pod in behind.stable_pods] == [None, 5]


@pytest.mark.parametrize("code", list(ReadinessCode))
async def test_only_a_permanent_readiness_code_fails_a_canary(code: ReadinessCode) -> None:
    canary = replace(POD, name="scoring-canary-0", ready=False)
    adapters, _, _, metrics = fakes_for(replace(ROLLING_OUT, canary_pods=(canary,)))
    # The words of the detail decide nothing.
    metrics.answer = Readiness(code, "not ready: ArtifactRejected")
    promotion = Promotion(OWNER, document(), in_first_step(phase=Phase.STARTING, weight=0, step=""))
    await reconcile(adapters, promotion)
    permanent = code in {ReadinessCode.ARTIFACT_REJECTED, ReadinessCode.MODEL_REJECTED}
    assert (promotion.state.phase == Phase.ROLLING_BACK) == permanent
    if permanent:
        assert promotion.state.failed_versions[0].reason == "CanaryFailed"
        assert promotion.state.message == "pod scoring-canary-0: not ready: ArtifactRejected"


IDLE = State(phase=Phase.IDLE, stable_version="1", desired_version="1", target="scoring", artifacts=COPIES)
FALLING = [{"weight": 50, "duration": "1m"}, {"weight": 5, "duration": "1m"}]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"steps": FALLING}, "spec.steps: weights must not decrease; reorder the steps or raise the later weight"),
        ({"model": {"name": "m", "alias": "production", "version": "3"}},
         "spec.model: set at most one of alias, stage and version; remove the others"),
        ({"model": {"name": "m", "alias": "production", "stage": "Production"}}, "spec.model: set at most one of"),
        ({"targetRef": {"name": "cards"}}, "spec.targetRef: cannot be changed; delete this ModelPromotion and create"),
    ],
)  # fmt: skip
async def test_a_broken_spec_is_reported_by_conditions_message_and_one_event(spec: Document, words: str) -> None:
    adapters, cluster, *_ = fakes_for()
    promotion = Promotion(OWNER, document(**spec), IDLE)
    for _ in range(5):
        await reconcile(adapters, promotion)
    assert_stalled(promotion, "InvalidSpec", words)
    assert [(event.reason, event.type) for event in cluster.events] == [("InvalidSpec", "Warning")]
    assert "snapshot" not in cluster.calls
    promotion.document = document()
    await reconcile(adapters, promotion)
    assert_recovered(promotion)


async def test_another_fault_of_the_spec_is_another_event() -> None:
    adapters, cluster, *_ = fakes_for()
    promotion = Promotion(OWNER, document(steps=FALLING), IDLE)
    await reconcile(adapters, promotion)
    promotion.document = document(steps=[{"pause": {}}])
    await reconcile(adapters, promotion)
    assert [event.message for event in cluster.events] == [
        "spec.steps: weights must not decrease; reorder the steps or raise the later weight",
        "spec.steps: at least one step needs a weight",
    ]


async def test_a_target_without_permission_is_reported_with_what_to_change() -> None:
    adapters, cluster, *_ = fakes_for()
    promotion = Promotion(OWNER, document(), IDLE)

    async def forbidden(*_: Any, **__: Any) -> Snapshot:
        raise TargetForbiddenError("the operator has no permission for Deployment scoring; add scoring to `targets`")

    allowed, cluster.snapshot = cluster.snapshot, forbidden  # type: ignore[method-assign]
    for _ in range(3):
        await reconcile(adapters, promotion)
    assert_stalled(promotion, "TargetForbidden", "add scoring to `targets`")
    assert [event.reason for event in cluster.events] == ["TargetForbidden"]
    cluster.snapshot = allowed  # type: ignore[method-assign]
    await reconcile(adapters, promotion)
    assert_recovered(promotion)


async def test_a_missing_target_is_reported_with_what_to_change() -> None:
    adapters, cluster, *_ = fakes_for(Snapshot())
    promotion = Promotion(OWNER, document(targetRef={"name": "cards"}), State())
    for _ in range(3):
        await reconcile(adapters, promotion)
    assert_stalled(promotion, "TargetNotFound", "Deployment cards does not exist; create it, or delete")
    assert [event.reason for event in cluster.events] == ["TargetNotFound"]


async def test_the_status_of_an_older_operator_is_rewritten_before_all_else() -> None:
    adapters, cluster, *_ = fakes_for()
    cluster.fail = {"snapshot"}
    promotion = Promotion(OWNER, document(), IDLE, rewrite_status=True)
    with pytest.raises(RetryableError):
        await reconcile(adapters, promotion)
    assert cluster.calls == ["save_status", "snapshot"]
    assert cluster.saved == [IDLE.to_document()]
    with pytest.raises(RetryableError):
        await reconcile(adapters, promotion)
    assert len(cluster.saved) == 1


def assert_stalled(promotion: Promotion, reason: str, words: str) -> None:
    found = {c.type: c for c in promotion.state.conditions}
    assert (found["Ready"].status, found["Ready"].reason) == ("False", reason)
    assert (found["Degraded"].status, found["Degraded"].reason) == ("True", reason)
    assert words in found["Degraded"].message
    assert promotion.state.message.startswith(f"{reason}: ")
    assert words in promotion.state.message
    assert promotion.state.observed_generation == promotion.generation


def assert_recovered(promotion: Promotion) -> None:
    found = {c.type: c.status for c in promotion.state.conditions}
    assert (found["Ready"], found["Degraded"]) == ("True", "False")
    assert "spec." not in promotion.state.message
    assert "Target" not in promotion.state.message
