"""What it takes to meet a demand: pods, cores, nodes, money, and what saturates first.

All functions are pure. Rates are per second, times in seconds unless a name says otherwise.
"""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from scale_constants import Constants

MIB_PER_GIB = 1024
DAY = 86_400
# MLflow, the decisions service, the archive and people also connect to Postgres; 3 are its administrator's.
OTHER_CONNECTIONS = 20
DAYS_PER_MONTH = 30.4


class DecisionLog(StrEnum):
    """The decision log's modes: docs/decisions.md."""

    OFF = "off"
    LOG = "log"
    REQUIRE = "require"


class Demand(BaseModel):
    """What is asked of the stack, and of what it is built.

    Attributes:
        requests_per_second: At the peak.
        reasons: The share of requests that want 4 reason codes.
        mean_share: The day's mean rate as a share of the peak's.
        rows_per_night: That bulk scoring scores.
        bulk_reasons: Whether these want 4 reason codes.
        night_hours: How long bulk scoring may take.
        zones: Availability zones. With two or more, the plan holds the peak with one of them lost.
        headroom: The share of each core that stays free at the peak, then too.
        decision_log: Its mode.
        archive_hours: How long the decision log's daily run may take.
        cores_per_node: Of the nodes.
        gib_per_node: Their memory.
        vcpu_hour_price: What a core costs for an hour, memory included, in any currency.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_second: float = Field(100_000, gt=0, allow_inf_nan=False)
    reasons: float = Field(1, ge=0, le=1)
    mean_share: float = Field(0.5, gt=0, le=1)
    rows_per_night: float = Field(1e9, ge=0, allow_inf_nan=False)
    bulk_reasons: bool = False
    night_hours: float = Field(6, gt=0, le=24)
    zones: int = Field(3, ge=1, le=10)
    headroom: float = Field(0.3, ge=0, lt=1)
    decision_log: DecisionLog = DecisionLog.LOG
    archive_hours: float = Field(20, gt=0, le=24)
    cores_per_node: int = Field(16, ge=2)
    gib_per_node: float = Field(64, gt=0)
    vcpu_hour_price: float = Field(0.05, ge=0)


class When(StrEnum):
    """When a part is needed."""

    ALWAYS = "always"
    ROLLOUT = "in a rollout"
    NIGHT = "at night"


class Part(BaseModel):
    """One part of the stack: how many of it, with how many cores and how much memory in all."""

    model_config = ConfigDict(frozen=True)

    name: str
    when: When
    count: int
    cores: float
    gib: float


class Ceiling(BaseModel):
    """Where one stack saturates.

    Attributes:
        part: What saturates.
        requests_per_second: From which peak rate.
        remedy: What moves the ceiling.
        shared_out: Whether only more stacks, each with a share of the requests, move it.
    """

    model_config = ConfigDict(frozen=True)

    part: str
    requests_per_second: float
    remedy: str
    shared_out: bool


class Plan(BaseModel):
    """What a demand takes.

    Attributes:
        demand: What was asked.
        parts: Of all stacks together.
        nodes: For the parts that are always there, for those and a rollout, and for those and the night.
        vcpu_hours_per_million_scores: Of the parts that are always there, by the day's mean rate.
        cost_per_million_scores: The same times the price.
        cost_per_million_rows: Of bulk scoring; 0 without rows.
        bridged_seconds: For how long a pod's disk takes its decisions at the peak while Postgres is away; infinite
            without a decision log.
        ceilings: Of one stack, the lowest first.
        stacks: How many stacks keep each below the ceilings that only more stacks move.
    """

    model_config = ConfigDict(frozen=True)

    demand: Demand
    parts: tuple[Part, ...]
    nodes: dict[When, int]
    vcpu_hours_per_million_scores: float
    cost_per_million_scores: float
    cost_per_million_rows: float
    bridged_seconds: float
    ceilings: tuple[Ceiling, ...]
    stacks: int


def mixed(demand: Demand, plain: float, with_reasons: float) -> float:
    """Return the mean over requests with and without reasons."""
    return (1 - demand.reasons) * plain + demand.reasons * with_reasons


def score_seconds(demand: Demand, known: Constants) -> float:
    """Return the seconds of a core that a scoring pod needs for a request."""
    cpu = mixed(demand, known.score_cpu.value, known.score_reasons_cpu.value)
    shares = {
        DecisionLog.OFF: 1.0,
        DecisionLog.LOG: known.log_share.value,
        DecisionLog.REQUIRE: known.require_share.value,
    }
    return cpu / shares[demand.decision_log] / 1e6


def forward_seconds(demand: Demand, known: Constants) -> float:
    """Return the seconds of a core that a stable pod needs for a request that the canary answers."""
    return mixed(demand, known.forward_cpu.value, known.forward_reasons_cpu.value) / 1e6


def spread(cores: float, demand: Demand) -> int:
    """Return how many pods of one core do the work of so many busy cores, the same number in each zone.

    With a zone lost, the others do it and keep their headroom.
    """
    surviving = max(1, demand.zones - 1)
    return demand.zones * math.ceil(cores / (1 - demand.headroom) / surviving - 1e-9)


def scoring_pods(demand: Demand, known: Constants) -> int:
    """Return how many pods answer the peak without a rollout."""
    return spread(demand.requests_per_second * score_seconds(demand, known), demand)


def promotion_pods(demand: Demand, known: Constants) -> int:
    """Return how many stable pods a promotion needs, when they forward every request; the canary gets as many."""
    forwarding = spread(demand.requests_per_second * forward_seconds(demand, known), demand)
    return max(forwarding, scoring_pods(demand, known))


def bulk_pods(demand: Demand, known: Constants) -> int:
    """Return how many pods score the night's rows in time; each scores whole shards.

    Raises:
        ValueError: One shard takes longer than the night.
    """
    rate = (known.bulk_reasons_rate if demand.bulk_reasons else known.bulk_rate).value * (1 - demand.headroom)
    shard_seconds, night = known.shard_rows.value / rate, demand.night_hours * 3600
    if not (shards_per_pod := int(night / shard_seconds)):
        raise ValueError(f"a shard takes {shard_seconds:.0f} s and the night has {night:.0f} s: allow more hours, or "
                         "choose smaller shards")  # fmt: skip
    return math.ceil(math.ceil(demand.rows_per_night / known.shard_rows.value) / shards_per_pod)


def pods(name: str, when: When, count: int, mib: float, cores: float | None = None) -> Part:
    """Return a part of so many pods with so much memory each, and with one core each unless told otherwise."""
    return Part(name=name, when=when, count=count, cores=count if cores is None else cores,
                gib=count * mib / MIB_PER_GIB)  # fmt: skip


def share_of(demand: Demand, stacks: int) -> Demand:
    """Return the demand of one of so many stacks, each of which has pods of its own in every zone."""
    return demand.model_copy(update={"requests_per_second": demand.requests_per_second / stacks})


def parts_of(demand: Demand, known: Constants, stacks: int) -> tuple[Part, ...]:
    """Return everything that runs, of all stacks together."""
    rate, memory, logged = (
        demand.requests_per_second,
        known.pod_memory.value,
        demand.decision_log is not DecisionLog.OFF,
    )
    share = share_of(demand, stacks)
    scoring, promotion = stacks * scoring_pods(share, known), stacks * promotion_pods(share, known)
    found = [
        pods("scoring", When.ALWAYS, scoring, memory),
        pods("ingress (Traefik)", When.ALWAYS, spread(rate * known.ingress_cpu.value / 1e6, demand), 256),
        pods("more stable pods, which forward", When.ROLLOUT, promotion - scoring, memory),
        pods("canary, for the promotion", When.ROLLOUT, promotion, memory),
        pods("bulk scoring", When.NIGHT, bulk_pods(demand, known), known.bulk_memory.value),
    ]
    if logged:
        free = 1 - demand.headroom
        shipping, writing = (rate * one.value / 1e6 / free for one in (known.ship_cpu, known.postgres_cpu))
        found[1:1] = [
            pods("shippers, in the scoring pods", When.ALWAYS, scoring, 256, shipping),
            pods("Postgres of the decision log", When.ALWAYS, stacks, 4096, max(writing, stacks)),
            # Two Jobs: near the first ceiling, each takes more than half of the day.
            pods("daily archive", When.ALWAYS, stacks, 512),
            pods("daily drift report", When.ALWAYS, stacks, 512),
        ]
    return tuple(part for part in found if part.count)


def archive_seconds(known: Constants) -> float:
    """Return what the daily run takes per decision: seal, proofs, export, and in time the month's removal."""
    rates = (known.seal_rate, known.enter_rate, known.export_rate, known.drop_rate)
    return sum(1 / rate.value for rate in rates)


def ceilings_of(demand: Demand, known: Constants) -> tuple[Ceiling, ...]:
    """Return where one stack saturates, by the peak rate, the lowest first."""
    # Of all pods: those of a zone are there for its loss, and have connections too.
    share = (1 - demand.headroom) * max(1, demand.zones - 1) / demand.zones
    per_pod = share / score_seconds(demand, known)
    steps = Ceiling(
        part="canary.replicas, at a step of 50 %", requests_per_second=known.canary_pods.value * per_pod / 0.5,
        remedy="steps of less than 50 %; the promotion itself has no such limit", shared_out=False,
    )  # fmt: skip
    if demand.decision_log is DecisionLog.OFF:
        return (steps,)
    # Of the mean over the day, in decisions per second.
    disk = known.database_disk.value * 2**30 / known.database_bytes.value
    kept = known.retention_months.value * DAYS_PER_MONTH * DAY
    share_of_day = demand.archive_hours * 3600 / DAY
    # In a promotion there are two pods, and so two connections, for each stable one, and more stable ones.
    promoting = share / max(score_seconds(demand, known), forward_seconds(demand, known))
    shippers = (known.postgres_connections.value - OTHER_CONNECTIONS) / 2
    found = (
        Ceiling(part="Postgres: the volume", requests_per_second=disk / kept / demand.mean_share,
                remedy="postgres.storage.size; decisions.archive.retentionMonths is 6 at least", shared_out=False),
        Ceiling(part="the archive: a month's removal, in one Job", shared_out=False,
                requests_per_second=known.job_hours.value * 3600 * known.drop_rate.value / DAYS_PER_MONTH / DAY
                / demand.mean_share,
                remedy="decisions.activeDeadlineSeconds; nothing is sealed meanwhile"),
        # A day's files, and what is read back of them.
        Ceiling(part="the archive: its scratch volume", shared_out=False,
                requests_per_second=known.workspace.value * 2**30 / (2 * known.archive_bytes.value) / DAY
                / demand.mean_share,
                remedy="decisions.workspace.sizeLimit"),
        Ceiling(part="the archive's daily run", shared_out=True,
                requests_per_second=share_of_day / archive_seconds(known) / demand.mean_share,
                remedy="more stacks: one process does it for each database"),
        Ceiling(part="the drift report", shared_out=True, remedy="more stacks; fewer days, or not every day",
                requests_per_second=share_of_day * known.drift_rate.value / known.drift_days.value / demand.mean_share),
        Ceiling(part="Postgres: records per second", requests_per_second=known.postgres_records.value, shared_out=True,
                remedy="more stacks; what more cores give is not measured"),
        Ceiling(part="Postgres: connections", requests_per_second=shippers * promoting, shared_out=False,
                remedy="a Postgres with a higher max_connections, or PgBouncer in session mode"),
        steps,
    )  # fmt: skip
    return tuple(sorted(found, key=lambda ceiling: ceiling.requests_per_second))


def nodes_for(parts: tuple[Part, ...], demand: Demand, known: Constants) -> int:
    """Return how many nodes hold these parts, by cores and by memory."""
    share = known.node_share.value
    cores, gib = sum(part.cores for part in parts), sum(part.gib for part in parts)
    return math.ceil(max(cores / (demand.cores_per_node * share), gib / (demand.gib_per_node * share)) - 1e-9)


def bridged_seconds(demand: Demand, known: Constants, stacks: int) -> float:
    """Return for how long a pod's segments take its decisions at the peak."""
    if demand.decision_log is DecisionLog.OFF:
        return math.inf
    per_pod = demand.requests_per_second / (stacks * scoring_pods(share_of(demand, stacks), known))
    return known.segment_limit.value * 2**20 / known.segment_bytes.value / per_pod


def plan(demand: Demand, known: Constants) -> Plan:
    """Return what a demand takes.

    Raises:
        ValueError: A shard of bulk scoring takes longer than the night.
    """
    ceilings = ceilings_of(demand, known)
    limits = [ceiling.requests_per_second for ceiling in ceilings if ceiling.shared_out]
    stacks = math.ceil(demand.requests_per_second / min(limits) - 1e-9) if limits else 1
    parts = parts_of(demand, known, stacks)
    always = tuple(part for part in parts if part.when is When.ALWAYS)
    cores = sum(part.cores for part in always)
    hours = cores * 1e6 / (demand.requests_per_second * demand.mean_share * 3600)
    rows = known.bulk_reasons_rate if demand.bulk_reasons else known.bulk_rate
    nodes = {
        when: nodes_for(tuple(part for part in parts if part.when in {when, When.ALWAYS}), demand, known)
        for when in When
    }
    return Plan(
        demand=demand, parts=parts, nodes=nodes, vcpu_hours_per_million_scores=hours,
        cost_per_million_scores=hours * demand.vcpu_hour_price,
        cost_per_million_rows=1e6 / rows.value / (1 - demand.headroom) / 3600 * demand.vcpu_hour_price,
        bridged_seconds=bridged_seconds(demand, known, stacks), ceilings=ceilings, stacks=stacks,
    )  # fmt: skip
