"""What the capacity plan computes: by hand where that is easy, and how it moves with its inputs everywhere else."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from scale_constants import Basis, Constant, Constants, read_constants
from scale_plan import DecisionLog, Demand, When, bulk_pods, plan, scoring_pods, spread

from conftest import REPOSITORY

KNOWN = read_constants()
PROGRAM = REPOSITORY / "benchmarks" / "scale" / "capacity.py"
PLAIN = Demand(requests_per_second=1000, reasons=0, decision_log=DecisionLog.OFF, zones=1, headroom=0)


def with_value(name: str, value: float) -> Constants:
    """Return the constants, but for the value of one."""
    constant: Constant = getattr(KNOWN, name)
    return KNOWN.model_copy(update={name: constant.model_copy(update={"value": value})})


# Computed from what is quoted, or not in it.
DERIVED = {
    "forward_cpu", "forward_reasons_cpu", "ingress_cpu", "postgres_connections", "database_bytes", "archive_bytes",
    "drift_rate", "drift_days", "model_bytes", "node_share", "job_hours",
}  # fmt: skip


@pytest.mark.parametrize("name", Constants.model_fields)
def test_a_constant_is_what_its_source_says(name: str) -> None:
    constant: Constant = getattr(KNOWN, name)
    assert constant.quote in (REPOSITORY / constant.source).read_text("utf-8")
    numbers = re.findall(r"\d*\.?\d[\d,_]*", constant.quote)
    assert name in DERIVED or constant.value in {float(found.replace(",", "").replace("_", "")) for found in numbers}


def test_a_constant_that_is_missing_unknown_or_not_above_zero_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "constants.toml"
    file.write_text('[score_cpu]\nvalue = 0\nunit = "us"\nbasis = "measured"\nsource = "a"\nquote = "b"\n[speed]\n')
    with pytest.raises(ValidationError) as refused:
        read_constants(file)
    named = {".".join(map(str, error["loc"])): error["type"] for error in refused.value.errors()}
    assert named["score_cpu.value"] == "greater_than"
    assert named["speed"] == "extra_forbidden"
    assert named["forward_cpu"] == "missing"


@pytest.mark.parametrize(("zones", "headroom", "busy", "expected"), [
    (1, 0, 1.0, 1),
    (1, 0, 1.1, 2),
    (1, 0.5, 1.0, 2),
    # Two zones: either does it alone. Three: any two do.
    (2, 0, 3.0, 6),
    (3, 0, 3.0, 6),
    (3, 0.25, 3.0, 6),
    (3, 0, 4.1, 9),
])  # fmt: skip
def test_pods_are_enough_with_a_zone_lost_and_the_same_in_each_zone(
    zones: int, headroom: float, busy: float, expected: int
) -> None:
    demand = Demand(zones=zones, headroom=headroom)
    found = spread(busy, demand)
    assert found == expected
    assert found % zones == 0
    assert found * max(1, zones - 1) / zones * (1 - headroom) >= busy


def test_the_core_seconds_of_requests_make_the_pods() -> None:
    known = with_value("score_cpu", 50)
    # A core scores 20,000 a second.
    assert scoring_pods(PLAIN.model_copy(update={"requests_per_second": 20_000}), known) == 1
    assert scoring_pods(PLAIN.model_copy(update={"requests_per_second": 20_001}), known) == 2
    assert scoring_pods(PLAIN.model_copy(update={"requests_per_second": 100_000, "zones": 3}), known) == 9


def test_reasons_and_a_durable_decision_log_cost_pods() -> None:
    def needed(**values: object) -> int:
        return scoring_pods(PLAIN.model_copy(update={"requests_per_second": 1e6, **values}), KNOWN)

    assert needed() < needed(reasons=0.5) < needed(reasons=1)
    assert needed() < needed(decision_log=DecisionLog.LOG) < needed(decision_log=DecisionLog.REQUIRE)
    assert needed(reasons=1) / needed() == pytest.approx(
        KNOWN.score_reasons_cpu.value / KNOWN.score_cpu.value, rel=0.03
    )


def test_a_promotion_needs_as_many_canary_pods_as_stable_ones_and_all_that_forwarding_takes() -> None:
    found = plan(Demand(requests_per_second=100_000, decision_log=DecisionLog.OFF), KNOWN)
    parts = {part.name: part for part in found.parts}
    stable = parts["scoring"].count + parts["more stable pods, which forward"].count
    assert parts["canary, for the promotion"].count == stable
    assert stable * 2 / 3 * 0.7 >= 100_000 * KNOWN.forward_reasons_cpu.value / 1e6


@pytest.mark.parametrize(("rows", "hours", "expected"), [
    (0, 1, 0),
    (1, 1, 1),
    # At 100,000 rows/s a shard of a million takes 10 s, and an hour has 360 of them.
    (360_000_000, 1, 1),
    (360_000_001, 1, 2),
    (1_000_000_000, 1, 3),
])  # fmt: skip
def test_pods_of_bulk_scoring_take_whole_shards(rows: float, hours: float, expected: int) -> None:
    demand = Demand(rows_per_night=rows, night_hours=hours, headroom=0)
    assert bulk_pods(demand, with_value("bulk_rate", 100_000)) == expected


def test_a_night_shorter_than_a_shard_is_refused() -> None:
    demand = Demand(night_hours=0.001, headroom=0)
    with pytest.raises(
        ValueError, match="a shard takes 10 s and the night has 4 s: allow more hours, or choose smaller"
    ):
        bulk_pods(demand, with_value("bulk_rate", 100_000))


def test_a_million_scores_cost_the_cores_that_run_all_day() -> None:
    demand = Demand(requests_per_second=50_000, mean_share=0.5, vcpu_hour_price=2)
    found = plan(demand, KNOWN)
    cores = sum(part.cores for part in found.parts if part.when is When.ALWAYS)
    scores_per_hour = 25_000 * 3600
    assert found.cost_per_million_scores == pytest.approx(cores * 2 / (scores_per_hour / 1e6))
    assert found.vcpu_hours_per_million_scores == pytest.approx(found.cost_per_million_scores / 2)


def test_more_stacks_keep_each_below_what_only_they_move() -> None:
    found = plan(Demand(requests_per_second=100_000), KNOWN)
    limits = [ceiling.requests_per_second for ceiling in found.ceilings if ceiling.shared_out]
    assert 100_000 / found.stacks <= min(limits) < 100_000 / (found.stacks - 1)


def test_each_stack_has_pods_in_every_zone() -> None:
    found = plan(Demand(requests_per_second=100_000, zones=3), KNOWN)
    (scoring,) = (part for part in found.parts if part.name == "scoring")
    assert scoring.count >= 3 * found.stacks
    assert scoring.count % (3 * found.stacks) == 0


def test_ceilings_come_in_order_and_follow_their_constants() -> None:
    def at(known: Constants, part: str) -> float:
        (found,) = (one for one in plan(Demand(), known).ceilings if one.part == part)
        return found.requests_per_second

    figures = [one.requests_per_second for one in plan(Demand(), KNOWN).ceilings]
    assert figures == sorted(figures)
    disk, connections = "Postgres: the volume", "Postgres: connections"
    assert at(with_value("database_disk", 80), disk) == pytest.approx(10 * at(with_value("database_disk", 8), disk))
    assert at(with_value("postgres_connections", 180), connections) == pytest.approx(2 * at(KNOWN, connections))


def test_without_a_decision_log_nothing_of_it_is_planned() -> None:
    found = plan(PLAIN, KNOWN)
    assert found.stacks == 1
    assert found.bridged_seconds == math.inf
    assert {part.name for part in found.parts}.isdisjoint(
        {"Postgres of the decision log", "daily archive", "daily drift report"}
    )


def test_a_disk_bridges_an_outage_by_its_pods_rate() -> None:
    once = plan(Demand(requests_per_second=100_000), KNOWN)
    pods = next(part.count for part in once.parts if part.name == "scoring")
    assert once.bridged_seconds == pytest.approx(1024 * 2**20 / 157 / (100_000 / pods))


@pytest.mark.parametrize(("values", "named"), [
    ({"requests_per_second": 0}, "requests_per_second"),
    ({"requests_per_second": math.inf}, "requests_per_second"),
    ({"headroom": 1}, "headroom"),
    ({"zones": 0}, "zones"),
    ({"reasons": 1.1}, "reasons"),
    ({"decision_log": "on"}, "decision_log"),
    ({"speed": 1}, "speed"),
])  # fmt: skip
def test_a_demand_out_of_range_is_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Demand.model_validate(values)


def test_a_constant_says_how_it_is_known() -> None:
    assert KNOWN.score_cpu.basis is Basis.MEASURED
    assert KNOWN.bulk_rate.basis is Basis.BUSY


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)


def test_the_program_prints_the_plan_as_a_table_and_for_programs() -> None:
    printed, for_programs = run("--zones", "2"), run("--zones", "2", "--json")
    found = json.loads(for_programs.stdout)
    assert found["demand"]["zones"] == 2
    (scoring,) = (part for part in found["parts"] if part["name"] == "scoring")
    assert re.search(rf"\| scoring \| always \| {scoring['count']:,} \|", printed.stdout)


def test_the_program_names_a_wrong_option_and_what_is_allowed() -> None:
    refused = run("--headroom", "1.5", "--zones", "none")
    assert refused.returncode == 2
    assert "--headroom: Input should be less than 1" in refused.stderr
    assert "--zones: Input should be a valid integer" in refused.stderr


def test_the_page_has_the_plan_that_the_program_prints() -> None:
    rows = [
        line for line in run().stdout.splitlines() if re.match(r"\| [a-zP].* \| (always|in a rollout|at night) ", line)
    ]
    assert len(rows) == len(plan(Demand(), KNOWN).parts)
    page = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
    assert [row for row in rows if row not in page] == []
