"""Canaries that are not admitted, and stable pods that cannot start."""

from __future__ import annotations

import pytest

from promoter.api.status import Phase
from promoter.decision.actions import DeleteCanary
from promoter.decision.decide import LINGER_SECONDS, decide
from promoter.decision.observation import CanaryView, StableView
from unit.promoter.test_decide import NOW, SPEC, after, observe, rollout, spec_with

QUOTA = 'pods "scoring-canary-x" is forbidden: exceeded quota: few'


@pytest.mark.parametrize(
    ("canary", "lack"),
    [
        (CanaryView("2", "t", 2, 1, refused=QUOTA), f"1 of 2 pods are ready; {QUOTA}"),
        (CanaryView("2", "t", 2, 0, refused=QUOTA), QUOTA),
        (CanaryView("2", "t", 2, 1, waiting="pod b is Pending: 0/1 nodes are available"),
         "1 of 2 pods are ready; pod b is Pending: 0/1 nodes are available"),
        (CanaryView("2", "t", 2, 1), "1 of 2 pods are ready"),
        (CanaryView(), "no pod yet"),
    ],
)  # fmt: skip
def test_what_a_canary_lacks_is_said_while_waiting_and_after_the_deadline(canary: CanaryView, lack: str) -> None:
    spec = spec_with(canary={"replicas": 2})
    waiting = rollout(Phase.STARTING)
    assert after(waiting, observe(waiting, canary=canary), spec).message == f"waiting for the canary: {lack}"
    late = rollout(Phase.STARTING, phase_started_at=NOW - 101)
    found = after(late, observe(late, canary=canary), spec)
    assert found.phase == Phase.ROLLING_BACK
    assert found.failed_versions[0].message == f"the canary is not ready after 101 s: {lack}"


# --- stable pods that cannot start


def stuck(version: str = "2", outdated: tuple[str, ...] = (), stalled: str = QUOTA) -> StableView:
    return StableView(True, version, False, "t", "0 of 2 updated", wanted=2, available=2, stalled=stalled,
                      outdated=outdated)  # fmt: skip


def test_a_promotion_whose_pods_cannot_start_is_degraded_and_goes_back_after_the_deadline() -> None:
    state = rollout(Phase.PROMOTING)
    waiting = after(state, observe(state, stable=stuck()))
    assert (waiting.phase, waiting.weight) == (Phase.PROMOTING, 10), "the canary keeps its share"
    assert waiting.message == f"updating the stable pods to version 2: 0 of 2 updated; {QUOTA}"
    degraded = waiting.condition("Degraded")
    assert degraded is not None
    assert (degraded.status, degraded.reason, degraded.message) == ("True", "PodsCannotStart", QUOTA)
    late = rollout(Phase.PROMOTING, phase_started_at=NOW - 101)
    found = after(late, observe(late, stable=stuck()))
    assert (found.phase, found.weight) == (Phase.ROLLING_BACK, 0)
    assert QUOTA in found.failed_versions[0].message


def test_a_canary_that_takes_the_room_of_the_stable_pods_is_deleted_before_they_are_back() -> None:
    state = rollout(Phase.ROLLING_BACK, phase_started_at=NOW - LINGER_SECONDS, reason="Aborted")
    back = stuck("1", outdated=("scoring-new",))
    found = decide(SPEC, 1, state, observe(state, stable=back), NOW)
    assert DeleteCanary() in found.actions
    gone = after(state, observe(state, stable=back, canary=CanaryView()))
    assert gone.phase == Phase.ROLLING_BACK
    assert gone.message.endswith(f"updating the stable pods to version 1: 0 of 2 updated; {QUOTA}")


def test_a_template_that_cannot_start_does_not_keep_a_rollback_from_ending() -> None:
    failed = after(rollout(Phase.PROGRESSING), observe(rollout(Phase.PROGRESSING)))
    state = rollout(Phase.ROLLING_BACK, reason="Aborted", failed_versions=failed.failed_versions)
    found = after(state, observe(state, stable=stuck("1"), canary=CanaryView()))
    assert found.phase == Phase.FAILED
