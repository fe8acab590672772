"""Sums of what the stable pods counted since a step began, across restarts and pods that come and go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from promoter.api.status import Window
from promoter.decision.observation import PodReading
from promoter.decision.totals import CHAMPION_PREFIX, PAIR_PREFIX

# Bounds the size of the status; pods that vanished longest ago are dropped first.
PODS_KEPT = 100


def open_window(readings: Iterable[PodReading], now: float) -> Window:
    """Return a window that counts from these readings on."""
    return Window(opened_at=now, pods={r.pod: dict(r.counters) for r in readings if not r.error})


def next_window(window: Window, readings: Sequence[PodReading], now: float, *, keep_champion: bool = False) -> Window:
    """Return the window of a rollout's next step: it counts from these readings on, and keeps all pairs so far.

    Pairs compare the models on the same applicants, which the weight does not change. All else begins anew: a canary
    may fail, and its applicants may differ, at one weight and not at another. With
    `keep_champion` what the champion answered in the step before is kept too: at 100 % it answers nobody, and latency
    has nothing else to be compared with.
    """
    if window.opened_at is None:
        return open_window(readings, now)
    kept = (PAIR_PREFIX, CHAMPION_PREFIX) if keep_champion else PAIR_PREFIX
    totals = {key: count for key, count in advance(window, readings).totals.items() if key.startswith(kept)}
    return open_window(readings, now).model_copy(update={"totals": totals})


def advance(window: Window, readings: Iterable[PodReading]) -> Window:
    """Add the increases since the last readings.

    A counter that fell means that the pod's process restarted: all its counts are new. A pod seen for the first time
    counts in full if it started within the window, else from now on. The counts of a vanished pod stay, and so does its
    last reading: it may only have been unready or unreadable for a moment.
    """
    pods, totals = dict(window.pods), dict(window.totals)
    for reading in readings:
        if reading.error:
            continue
        # Removed first, so that the pods seen longest ago come first.
        last = pods.pop(reading.pod, None)
        for series, increase in _increases(reading, last, window.opened_at or 0.0).items():
            totals[series] = totals.get(series, 0.0) + increase
        pods[reading.pod] = dict(reading.counters)
    kept = dict(list(pods.items())[-PODS_KEPT:])
    return Window(opened_at=window.opened_at, pods=kept, totals=totals)


def _increases(reading: PodReading, last: Mapping[str, float] | None, opened_at: float) -> dict[str, float]:
    counters = dict(reading.counters)
    if last is None:
        return counters if reading.started_at >= opened_at else {}
    if any(counters.get(series, 0.0) < value for series, value in last.items()):
        return counters
    return {series: value - last.get(series, 0.0) for series, value in counters.items()}
