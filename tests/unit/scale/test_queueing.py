"""The simulation of waiting requests, against queues whose waits are known."""

from __future__ import annotations

import math
import statistics

import pytest
from queueing import Balancing, Service, clients, fleet

# One request per turn at most, nearly: a request takes 1 ms, and turns without company are the rule.
MILLISECOND = 0.001


def test_requests_that_never_meet_take_a_turn_and_the_way_there() -> None:
    waits = fleet(Service(turn=0.002, request=0.001, outside=0.0005), rate=0.1, pods=1, seconds=10_000)
    assert waits.percentile(50) == pytest.approx(3.5)
    assert waits.percentile(99) == pytest.approx(3.5)


def test_the_first_turn_after_a_rest_takes_longer() -> None:
    service = Service(turn=0.001, request=0.001, wake=0.005)
    assert fleet(service, rate=0.1, pods=1, seconds=10_000).percentile(50) == pytest.approx(7)
    assert clients(service, 1, pause=0, seconds=10).percentile(50) == pytest.approx(2)


def test_clients_that_never_pause_share_turns() -> None:
    service = Service(turn=0.002, request=0.001)
    for connections in (1, 4, 16):
        waits = clients(service, connections, pause=0, seconds=10)
        # All are answered together, and all come again for the next turn.
        assert waits.percentile(50) == pytest.approx(2 + connections)
        assert waits.rate == pytest.approx(service.capacity(connections), rel=0.01)


def test_turns_of_a_fixed_length_keep_a_request_for_one_and_a_half_of_them() -> None:
    # Nearly always busy, each arrival waits for the rest of a turn, evenly distributed, and for its own turn.
    waits = fleet(Service(turn=MILLISECOND, request=1e-9, limit=10_000), rate=50_000, pods=1, seconds=5)
    assert statistics.mean(waits.latencies) == pytest.approx(1.5 * MILLISECOND, rel=0.01)
    assert waits.percentile(100) <= 2 * MILLISECOND * 1e3 * 1.001


def test_requests_without_a_turns_cost_wait_as_in_an_md1_queue() -> None:
    # Gated service answers a group at its end, so its mean wait is above M/D/1's, and below twice that.
    load, service = 0.5, Service(turn=0, request=MILLISECOND, limit=10_000)
    in_md1 = MILLISECOND * (1 + load / (2 * (1 - load)))
    found = statistics.mean(fleet(service, load / MILLISECOND, pods=1, seconds=200).latencies)
    assert in_md1 < found < 2 * in_md1


def test_waits_grow_with_the_load_and_without_bound_only_at_the_capacity() -> None:
    service = Service(turn=0.0001, request=0.00004)
    means = [fleet(service, share / 0.00004, pods=1, seconds=2).percentile(99) for share in (0.2, 0.5, 0.8, 0.95)]
    assert means == sorted(means)
    overloaded = fleet(service, 1.5 / 0.00004, pods=1, seconds=2)
    assert overloaded.refused > 0
    # What a full pod refuses keeps the wait of what it accepts at the time for its limit.
    assert overloaded.percentile(100) < 2 * (0.0001 + 256 * 0.00004) * 1e3 * 1.01


def test_a_smoother_share_of_the_requests_waits_less() -> None:
    service = Service(turn=0.0001, request=0.00004)
    random, in_turn, least = (
        fleet(service, 8 * 0.8 / 0.00004, pods=8, seconds=1, balancing=balancing).percentile(99)
        for balancing in (Balancing.RANDOM, Balancing.ROUND_ROBIN, Balancing.LEAST_OF_TWO)
    )
    assert in_turn < random
    assert least < random


def test_every_request_is_answered_or_refused() -> None:
    waits = fleet(Service(turn=0.001, request=0.001, limit=4), rate=2_000, pods=2, seconds=5, seed=3)
    assert waits.refused > 0
    assert waits.rate * 5 + waits.refused == pytest.approx(10_000, rel=0.05)


def test_pausing_clients_offer_their_number_by_pause_and_answer() -> None:
    waits = clients(Service(turn=0.001, request=0.0001), connections=10, pause=0.1, seconds=200)
    answer = statistics.mean(waits.latencies)
    assert waits.rate == pytest.approx(10 / (0.1 + answer), rel=0.03)


def test_a_turns_time_varies_by_the_factors() -> None:
    waits = fleet(Service(turn=0.001, request=1e-9, factors=(1.0, 3.0)), rate=0.001, pods=1, seconds=100_000)
    assert {round(one, 6) for one in waits.latencies} == {0.001, 0.003}


@pytest.mark.parametrize("values", [
    {"turn": -1.0, "request": 1.0}, {"turn": 0.0, "request": 0.0}, {"turn": 0.0, "request": 1.0, "outside": -1.0},
    {"turn": 0.0, "request": 1.0, "factors": ()}, {"turn": 0.0, "request": 1.0, "limit": 0},
])  # fmt: skip
def test_a_service_that_cannot_be_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        Service(**values)  # type: ignore[arg-type]


def test_a_percentile_of_nothing_is_nan_and_one_beyond_100_an_error() -> None:
    waits = fleet(Service(turn=0.001, request=0.001), rate=1e-9, pods=1, seconds=1)
    assert math.isnan(waits.percentile(50))
    with pytest.raises(ValueError, match="0 to 100"):
        waits.percentile(101)
