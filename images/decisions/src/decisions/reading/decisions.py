"""Decisions as people read them: by id, or newest first by applicant, request, time, version and role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from pydantic import BaseModel, Field

from decisions.database.id_ranges import FIRST_ID, LAST_ID, first_id, time_of

Role = Literal["champion", "canary", "fall-back", "shadow"]
OutcomeName = Literal["repaid", "defaulted", "open"]
_COLUMNS = """
    d.id, d.request_id, d."row", d.endpoint, d.role, d.client, d.probability, d.points, d.decision, d.grade, d.reasons,
    d.latency_us, d.pod, d.log_id, d.sequence, d.inputs_hash, d.previous_hash, d.hash,
    v.name, v.version, v.digests, i.id IS NULL AS forgotten, i.applicant_id, i.inputs,
    o.outcome, o.observed_at, o.reported_at, o.reported_by, s.date AS seal_date, s.sha256 AS seal_sha256
"""
_JOINS = """
    JOIN model_versions v ON v.id = d.model_version
    LEFT JOIN decision_inputs i ON i.id = d.id AND i.id >= %(low)s AND i.id < %(high)s
    LEFT JOIN LATERAL (SELECT * FROM current_outcomes c WHERE c.decision_id = d.id) o ON true
    LEFT JOIN sealed_logs l ON l.log_id = d.log_id AND l.first <= d.sequence AND l.last >= d.sequence
    LEFT JOIN seals s ON s.date = l.date
"""


class ModelVersion(BaseModel):
    """The model version that scored."""

    name: str
    version: str
    digests: dict[str, str] = Field(description="The SHA-256 of each of its files, in hex")


class LogPlace(BaseModel):
    """Where the decision's record is in its log, and the hashes that prove it."""

    id: UUID
    sequence: int = Field(description="From 1, without a gap")
    inputs_hash: str
    previous_hash: str
    hash: str


class SealedBy(BaseModel):
    """The seal that covers the decision's place in its log."""

    day: date = Field(description="The day whose seal it is, in UTC")
    sha256: str = Field(description="Of the seal's document, by which the next one names it")


class ReportedOutcome(BaseModel):
    """What became of the loan."""

    outcome: OutcomeName
    observed_at: datetime
    reported_at: datetime
    reported_by: str


class Decision(BaseModel):
    """A decision as it was made, and what is known of it since."""

    decision_id: UUID
    decided_at: datetime = Field(description="When it was scored: the time in its id")
    request_id: str
    row: int = Field(description="In its request; 0 for a single application")
    endpoint: str
    role: Role
    client: str
    model: ModelVersion
    probability_of_default: float
    score_points: int
    decision: Literal["approve", "decline"]
    grade: str | None
    reasons: list[str] | None = Field(description="Reason codes; null if the request asked for none")
    latency_us: int
    pod: str
    forgotten: bool = Field(description="Whether applicant and inputs were deleted on request")
    applicant_id: str | None
    inputs: dict[str, float | str | dict[str, bool] | None] | None = Field(
        description='By feature, as they were scored; a category outside of the model\'s list is {"other": true}'
    )
    outcome: ReportedOutcome | None = Field(description="The one observed last")
    log: LogPlace
    sealed: SealedBy | None = Field(
        description="null until the daily archive has sealed it; GET /v1/decisions/{id}/proof shows that it is in it"
    )


@dataclass(frozen=True)
class Filter:
    """Which decisions are wanted; None is all.

    Attributes:
        since: At this time or later.
        until: Before this time.
        version: Of any model.
        after: The last decision of the page before.
    """

    applicant_id: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    version: str | None = None
    role: Role | None = None
    after: UUID | None = None

    def id_range(self) -> tuple[UUID, UUID]:
        """Return the lowest id wanted, and the one that follows the highest."""
        low = FIRST_ID if self.since is None else first_id(self.since)
        high = LAST_ID if self.until is None else first_id(self.until)
        return low, high if self.after is None else min(high, self.after)


async def get_decision(connection: AsyncConnection[Any], decision_id: UUID) -> Decision | None:
    """Return the decision with this id, if there is one."""
    query = f"SELECT {_COLUMNS} FROM decisions d {_JOINS} WHERE d.id = %(low)s"  # noqa: S608 - nothing of a request
    following = UUID(int=min(decision_id.int + 1, LAST_ID.int))
    found = await _read(connection, query, {"low": decision_id, "high": following})
    return next(iter(found), None)


async def list_decisions(connection: AsyncConnection[Any], wanted: Filter, limit: int) -> list[Decision]:
    """Return the newest decisions that pass the filter, at most `limit`."""
    query, parameters = list_query(wanted, limit)
    return list(await _read(connection, query, parameters))


def list_query(wanted: Filter, limit: int) -> tuple[str, Mapping[str, object]]:
    """Return the query for a page and its parameters.

    Applicant and request are looked up first, by their index, whatever the planner thinks of scanning by id.
    """
    low, high = wanted.id_range()
    conditions = ["d.id >= %(low)s", "d.id < %(high)s"]
    chosen = []
    if wanted.applicant_id is not None:
        chosen.append("SELECT id FROM decision_inputs WHERE applicant_id = %(applicant_id)s")
    if wanted.request_id is not None:
        chosen.append("SELECT id FROM decisions WHERE request_id = %(request_id)s")
    if wanted.version is not None:
        conditions.append("d.model_version IN (SELECT id FROM model_versions WHERE version = %(version)s)")
    if wanted.role is not None:
        conditions.append("d.role = %(role)s")
    ranged = (f"({query} AND id >= %(low)s AND id < %(high)s)" for query in chosen)
    # Nothing of a request is in the query's text.
    first = f"WITH chosen AS MATERIALIZED ({' INTERSECT '.join(ranged)}) " if chosen else ""
    join = "JOIN chosen USING (id)" if chosen else ""
    query = (
        f"{first}SELECT {_COLUMNS} FROM decisions d {join} {_JOINS} "  # noqa: S608
        f"WHERE {' AND '.join(conditions)} ORDER BY d.id DESC LIMIT %(limit)s"
    )
    parameters = {
        "low": low, "high": high, "applicant_id": wanted.applicant_id, "request_id": wanted.request_id,
        "version": wanted.version, "role": wanted.role, "limit": limit,
    }  # fmt: skip
    return query, parameters


async def list_outcomes(connection: AsyncConnection[Any], decision_id: UUID) -> list[ReportedOutcome]:
    """Return all that was reported about a decision, the one observed last first."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        "SELECT outcome, observed_at, reported_at, reported_by FROM outcomes WHERE decision_id = %s "
        "ORDER BY observed_at DESC, reported_at DESC, outcome",
        [decision_id],
    )
    return [ReportedOutcome(**row) for row in await cursor.fetchall()]


async def _read(connection: AsyncConnection[Any], query: str, parameters: Mapping[str, object]) -> Iterable[Decision]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query.encode(), parameters)
    return [_decision(row) for row in await cursor.fetchall()]


def _decision(row: DictRow) -> Decision:
    outcome = (
        None
        if row["outcome"] is None
        else ReportedOutcome(**{name: row[name] for name in ReportedOutcome.model_fields})
    )
    return Decision(
        decision_id=row["id"],
        decided_at=time_of(row["id"]),
        model=ModelVersion(name=row["name"], version=row["version"], digests=row["digests"]),
        probability_of_default=row["probability"],
        score_points=row["points"],
        outcome=outcome,
        log=LogPlace(
            id=row["log_id"],
            sequence=row["sequence"],
            inputs_hash=row["inputs_hash"].hex(),
            previous_hash=row["previous_hash"].hex(),
            hash=row["hash"].hex(),
        ),
        sealed=None if row["seal_date"] is None else SealedBy(day=row["seal_date"], sha256=row["seal_sha256"].hex()),
        **{name: row[name] for name in _SAME},
    )


# The fields that the table calls by the same name.
_SAME = ("request_id", "row", "endpoint", "role", "client", "decision", "grade", "reasons", "latency_us", "pod",
         "forgotten", "applicant_id", "inputs")  # fmt: skip
