"""The window of a step: increases are summed across restarts and pods that come and go."""

from __future__ import annotations

from promoter.api.status import Window
from promoter.decision.observation import PodReading
from promoter.decision.window import PODS_KEPT, advance, next_window, open_window


def reading(pod: str, started_at: float = 0.0, error: str = "", **counters: float) -> PodReading:
    return PodReading(pod, started_at, 1, counters, error)


def test_only_increases_since_the_step_began_count() -> None:
    window = open_window([reading("a", ok=100)], now=50)
    assert advance(window, [reading("a", ok=130)]).totals == {"ok": 30}


def test_a_restarted_process_counts_in_full() -> None:
    window = advance(open_window([reading("a", ok=100, bad=5)], now=50), [reading("a", ok=110, bad=5)])
    assert advance(window, [reading("a", ok=120, bad=1)]).totals["ok"] == 130


def test_the_counts_of_a_vanished_pod_stay() -> None:
    window = advance(open_window([reading("a", ok=0)], now=50), [reading("a", ok=40)])
    assert advance(window, [reading("b", started_at=60, ok=7)]).totals == {"ok": 47}


def test_a_pod_that_was_unready_for_a_moment_is_not_counted_twice() -> None:
    window = advance(open_window([], now=50), [reading("a", started_at=60, ok=40)])
    window = advance(window, [])
    assert advance(window, [reading("a", started_at=60, ok=45)]).totals == {"ok": 45}


def test_pods_that_vanished_longest_ago_are_dropped() -> None:
    window = open_window([], now=0)
    for number in range(PODS_KEPT + 20):
        window = advance(window, [reading(f"pod-{number}", started_at=1, ok=1), reading("lasting", started_at=1, ok=1)])
    assert len(window.pods) == PODS_KEPT
    assert "lasting" in window.pods
    assert window.totals == {"ok": PODS_KEPT + 21}


def test_a_new_pod_that_is_older_than_the_step_counts_from_now_on() -> None:
    window = advance(open_window([], now=50), [reading("a", started_at=10, ok=900)])
    assert advance(window, [reading("a", started_at=10, ok=905)]).totals == {"ok": 5}


def test_a_pod_that_was_unreadable_once_loses_no_counts() -> None:
    window = advance(open_window([reading("a", ok=10)], now=50), [reading("a", error="timeout")])
    assert advance(window, [reading("a", ok=25)]).totals == {"ok": 15}


def counted(pairs: float, errors: float, error: str = "") -> PodReading:
    counters = {"pair/decision/both_approve": pairs, "canary/outcome/error": errors}
    return PodReading("a", 0.0, 1, counters, error)


def test_the_next_step_keeps_the_pairs_and_counts_all_else_anew() -> None:
    window = advance(open_window([counted(100, 10)], now=50), [counted(140, 12)])
    following = next_window(window, [counted(150, 17)], now=90)
    assert following.totals == {"pair/decision/both_approve": 50}
    assert following.opened_at == 90
    assert advance(following, [counted(153, 19)]).totals == {
        "pair/decision/both_approve": 53, "canary/outcome/error": 2,
    }  # fmt: skip


def test_the_first_step_of_a_rollout_keeps_no_pairs_of_an_earlier_one() -> None:
    assert next_window(Window(), [counted(150, 17)], now=90).totals == {}


def test_pairs_are_kept_over_a_step_that_began_while_a_pod_was_unreadable() -> None:
    window = advance(open_window([counted(100, 10)], now=50), [counted(140, 12)])
    assert next_window(window, [counted(0, 0, error="timeout")], now=90).totals == {"pair/decision/both_approve": 40}
