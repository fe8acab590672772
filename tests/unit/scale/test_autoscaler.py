"""The autoscaler's algorithm, by the examples and rules of Kubernetes' documentation, and what it does to a fleet."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from autoscaler import Autoscaler, Policy, desired
from scenarios import Cluster, ramp_of, run, summary

from conftest import REPOSITORY

POLICY = Policy(target=0.5, request=1.0, least=1, most=100)
PROGRAM = REPOSITORY / "benchmarks" / "scale" / "scenarios.py"


@pytest.mark.parametrize(("replicas", "usages", "unready", "missing", "expected"), [
    # ceil(replicas * usage / target).
    (4, [1.0] * 4, 0, 0, 8),
    (4, [0.6] * 4, 0, 0, 5),
    (4, [0.25] * 4, 0, 0, 2),
    # Within the tolerance of a tenth nothing changes.
    (4, [0.54] * 4, 0, 0, 4),
    (4, [0.46] * 4, 0, 0, 4),
    (10, [0.56] * 10, 0, 0, 12),
    # Pods that start count as idle when more are wanted: 4 * 1.0 over 6 pods is .67, which asks for 8 of them.
    (6, [1.0] * 4, 2, 0, 8),
    # With these four the load is carried: no more are added.
    (8, [1.0] * 4, 4, 0, 8),
    # They do not count when fewer are enough.
    (4, [0.25] * 2, 2, 0, 1),
    # Pods without a measurement count as idle when more are wanted, and as using their request otherwise.
    (6, [1.0] * 4, 0, 2, 8),
    (4, [0.1] * 3, 0, 1, 3),
    (4, [0.25] * 2, 0, 2, 4),
    # Nothing is measured: nothing changes.
    (3, [], 3, 0, 3),
])  # fmt: skip
def test_how_many_pods_a_measurement_asks_for(
    replicas: int, usages: list[float], unready: int, missing: int, expected: int
) -> None:
    assert desired(POLICY, replicas, usages, unready, missing) == expected


def test_in_a_period_the_pods_at_most_double_or_grow_by_four() -> None:
    autoscaler = Autoscaler(POLICY)
    assert autoscaler.decide(0, 1, [50.0]) == 5
    assert autoscaler.decide(15, 5, [50.0] * 5) == 10
    assert autoscaler.decide(30, 10, [50.0] * 10) == 20


def test_what_was_added_within_the_period_counts() -> None:
    autoscaler = Autoscaler(Policy(target=0.5, request=1.0, sync=5))
    assert autoscaler.decide(0, 2, [5.0] * 2) == 6
    assert autoscaler.decide(5, 6, [5.0] * 6) == 6
    assert autoscaler.decide(15, 6, [5.0] * 6) == 10


def test_fewer_pods_wait_for_five_minutes_without_a_higher_recommendation() -> None:
    autoscaler = Autoscaler(POLICY)
    assert autoscaler.decide(0, 10, [0.5] * 10) == 10
    found = [autoscaler.decide(at, 10, [0.25] * 10) for at in range(15, 331, 15)]
    assert found[:-2] == [10] * (len(found) - 2)
    assert found[-1] == 5


@pytest.mark.parametrize(("usage", "expected"), [(50.0, 3), (0.0, 2)])
def test_the_limits_hold(usage: float, expected: int) -> None:
    assert Autoscaler(Policy(target=0.5, request=1.0, least=2, most=3)).decide(0, 2, [usage] * 2) == expected


CLUSTER = Cluster(pod_rate=1_000, pod_start=5)


def test_a_ramp_slower_than_the_autoscaler_costs_no_request() -> None:
    found = run(Policy(request=1.0, most=100), CLUSTER, ramp_of(1_000, 10_000, 60, 1_200), 2_000, first=2)
    assert summary(found)["refused_share"] == 0
    assert found[-1].ready == pytest.approx(10_000 / 1_000 / 0.7, abs=2)


def test_a_jump_is_refused_until_new_pods_are_ready() -> None:
    found = run(Policy(request=1.0, most=100), CLUSTER, ramp_of(1_000, 10_000, 60, 0), 600, first=2)
    refusing = [one.at for one in found if one.refused]
    # From the jump until the third of three doublings, each a measurement, a decision and a start after the one before.
    assert refusing[0] == 61
    assert 61 + 30 < refusing[-1] < 61 + 120
    assert refusing == list(range(refusing[0], refusing[-1] + 1))


def test_a_lost_zone_is_not_replaced_before_its_pods_are_evicted() -> None:
    found = run(Policy(request=1.0, most=100), CLUSTER, lambda _: 4_200.0, 600, first=6, zones=3, loss_at=60)
    assert {one.ready for one in found if 60 <= one.at < 360} == {4}
    # Its pods get requests until their node counts as silent, and no longer.
    assert [one.at for one in found if one.lost] == list(range(60, 100))
    assert all(one.refused for one in found if 100 <= one.at < 360)
    assert found[-1].ready >= 6
    assert not found[-1].refused


def test_pods_with_room_for_a_zone_refuse_nothing_when_it_is_lost() -> None:
    found = run(
        Policy(target=0.45, request=1.0, most=100), CLUSTER, lambda _: 3_600.0, 600, first=9, zones=3, loss_at=60
    )
    assert summary(found)["refused_share"] == 0


def test_a_fleet_begins_with_a_pod() -> None:
    with pytest.raises(ValueError, match="0 pods at the beginning: 1 or more are needed"):
        run(POLICY, CLUSTER, lambda _: 1.0, 10, first=0)


def test_the_program_says_what_came_of_a_scenario() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "ramp", "--over", "600", "--seconds", "1200"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    found = json.loads(done.stdout)
    assert found["refused_share"] == 0
    assert found["most_ready"] >= 5
