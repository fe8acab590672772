"""One turn of one promotion: observe, decide, save, act."""

from __future__ import annotations

import contextlib
import logging

from promoter.act import act, record_events, save, with_outdated_pods
from promoter.api.rules import InvalidSpecError, parse_spec, require_decision_log
from promoter.api.spec import Spec
from promoter.api.status import State
from promoter.decision.approvals import without_approvals
from promoter.decision.conditions import StallReason, degraded, stalled
from promoter.decision.decide import Decision, decide
from promoter.decision.timeline import Origin, Turn, note_changes, pointer_moved
from promoter.errors import PermanentError, RetryableError, TargetForbiddenError
from promoter.measure import measured
from promoter.observe import observe
from promoter.promotion import Adapters, Promotion

log = logging.getLogger(__name__)
# A single failed turn is not worth reporting.
_FAULTS_BEFORE_REPORT = 2
_APPROVALS_DISABLED = (
    "spec.steps: a pause asks for approvals, and the operator cannot check who approves; set `approvals.enabled` in "
    "the values of its chart (`operator.approvals.enabled` in the stack's), or remove the approvals"
)


async def reconcile(adapters: Adapters, promotion: Promotion) -> None:
    """Run one turn; afterwards the promotion's state equals the stored status.

    Raises:
        RetryableError: another system did not answer; a later turn does what is left.
        PermanentError: the API server refused the status.
    """
    now = adapters.now()
    known = adapters.outbox.without_delivered(promotion.owner, promotion.state) if adapters.outbox else promotion.state
    if promotion.rewrite_status:
        # First of all: while a status of an older operator is stored, servers refuse any change of the object.
        await save(adapters, promotion, promotion.state)
    try:
        spec = parse_spec(promotion.document.get("spec"), promotion.state.target)
        require_decision_log(spec, available=adapters.checks is not None)
    except InvalidSpecError as error:
        await _stall(adapters, promotion, "InvalidSpec", str(error), now)
        return
    if spec.approvals and adapters.approvals is None:
        await _stall(adapters, promotion, "ApprovalsDisabled", _APPROVALS_DISABLED, now,
                     without_approvals(spec, promotion.state))  # fmt: skip
        return
    if promotion.target_holder:
        await _stall(adapters, promotion, "TargetTaken", _target_taken(promotion), now)
        return
    try:
        snapshot, observed = await observe(adapters, promotion, spec)
        observed = await measured(adapters, promotion, spec, observed, now)
    except PermanentError as error:
        reason: StallReason = "TargetForbidden" if isinstance(error, TargetForbiddenError) else "Blocked"
        await _stall(adapters, promotion, reason, str(error), now)
        return
    decision = decide(spec, promotion.generation, known, observed, now)
    state = await _with_timeline(adapters, promotion, spec, known, decision, now) if adapters.outbox else decision.state
    if promotion.refusal:
        # What was refused before will most likely be refused again; without this the status would alternate.
        state = degraded(state, promotion.state, "Refused", promotion.refusal, now)
    await save(adapters, promotion, state)
    if adapters.audience:
        adapters.audience.turned(promotion, known, Turn(state, decision.judgment, decision.performed), snapshot)
    snapshot = with_outdated_pods(snapshot, observed, state.route.generation)
    try:
        await act(adapters, promotion, spec, snapshot, decision.actions)
    except PermanentError as error:
        log.warning("%s: %s", promotion.owner, error)
        promotion.refusal = str(error)
        await save(adapters, promotion, degraded(promotion.state, promotion.state, "Refused", promotion.refusal, now))
    else:
        promotion.refusal = ""


async def report_fault(adapters: Adapters, promotion: Promotion, error: Exception) -> None:
    """Report in the status that turns keep failing and are retried; a single failure is not reported.

    If the API server itself fails, the status cannot be written, and the log has to do.
    """
    promotion.faults += 1
    if promotion.faults < _FAULTS_BEFORE_REPORT:
        return
    state = degraded(promotion.state, promotion.state, "Retrying", str(error), adapters.now())
    with contextlib.suppress(RetryableError, PermanentError):
        await save(adapters, promotion, state)


async def _with_timeline(
    adapters: Adapters, promotion: Promotion, spec: Spec, known: State, decision: Decision, now: float
) -> State:
    """Return the decided state with the events for the timeline."""
    moved_by = None
    if pointer_moved(known, decision.state):
        with contextlib.suppress(RetryableError, PermanentError):
            moved_by = await adapters.registry.moved_by(spec.model, decision.state.desired_version)
    owner = promotion.owner
    origin = Origin(f"{owner}/{owner.uid}", spec.model.name, moved_by, promotion.action_by)
    return note_changes(known, Turn(decision.state, decision.judgment, decision.performed), origin, now)


async def _stall(
    adapters: Adapters, promotion: Promotion, reason: StallReason, message: str, now: float, state: State | None = None
) -> None:
    await save(adapters, promotion, stalled(state or promotion.state, reason, message, promotion.generation, now))
    await record_events(adapters, promotion)


def _target_taken(promotion: Promotion) -> str:
    return (
        f"Deployment {promotion.target} is already the target of ModelPromotion {promotion.target_holder}, which is "
        "older; delete one of the two, or create this one with another spec.targetRef.name"
    )
