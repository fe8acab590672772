"""The window of a step: increases are summed across restarts and pods that come and go."""

from __future__ import annotations

from promoter.decision.observation import PodReading
from promoter.decision.window import PODS_KEPT, advance, open_window


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
