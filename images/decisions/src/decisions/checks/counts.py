"""What the database has about the two versions, counted there: no decision leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from psycopg import AsyncConnection

from decisions.checks.calibration import GradeCount
from decisions.checks.ranking import Scores
from decisions.database.id_ranges import first_id, time_of
from decisions.records.contract import read_contract

# In which PDs are counted: two that are closer than 1 in 10,000 count as the same.
_BINS = 10_000
# Single applications: batches are not routed, so the canary has none to compare with. Of an applicant whom the canary
# failed, the champion's answer says nothing about either.
_COMPARED = """
    d.id >= %(since)s AND d.endpoint = 'score' AND d.model_version = ANY (%(versions)s) AND d.role = ANY (%(roles)s)
"""
_SCORES = f"""
    SELECT floor(d.probability * {_BINS})::int AS bin, avg(d.probability::float8), count(*),
        count(*) FILTER (WHERE d.id < %(mature)s AND o.outcome = 'defaulted'),
        count(*) FILTER (WHERE d.id < %(mature)s AND o.outcome = 'repaid')
    FROM decisions d
    LEFT JOIN current_outcomes o ON o.decision_id = d.id AND o.decision_id >= %(since)s AND o.decision_id < %(mature)s
    WHERE {_COMPARED} GROUP BY bin ORDER BY bin
"""  # noqa: S608 - nothing of a request
_REASONS = f"""
    SELECT coalesce(d.reasons[1], 'no reason'), count(*) FROM decisions d
    WHERE {_COMPARED} AND d.reasons IS NOT NULL GROUP BY 1
"""  # noqa: S608 - nothing of a request
_NEWEST = f"SELECT d.id FROM decisions d WHERE {_COMPARED} ORDER BY d.id DESC LIMIT 1"  # noqa: S608 - as above
_GRADES = """
    SELECT coalesce(d.grade, 'of all loans'),
        count(*) FILTER (WHERE known), count(*) FILTER (WHERE o.outcome = 'defaulted'),
        avg(d.probability::float8) FILTER (WHERE known),
        count(*) FILTER (WHERE NOT known AND d.decision = 'approve')
    FROM decisions d
    LEFT JOIN current_outcomes o ON o.decision_id = d.id AND o.decision_id < %(mature)s
    CROSS JOIN LATERAL (SELECT coalesce(o.outcome IN ('repaid', 'defaulted'), false) AS known) k
    WHERE d.id < %(mature)s AND d.model_version = ANY (%(versions)s) AND d.role <> 'shadow'
    GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class Version:
    """A version as the log knows it; the same number has two ids if its files were replaced.

    Attributes:
        ids: Of model_versions.
        grades: How many grades its contract declares.
    """

    ids: tuple[UUID, ...]
    grades: int


@dataclass(frozen=True)
class Arm:
    """Whose decisions of a time are compared: a version's, in the roles in which it answers applicants or is tried."""

    version: Version
    roles: tuple[str, ...]
    since: datetime

    def parameters(self, mature: datetime) -> dict[str, Any]:
        """Return the parameters of the queries."""
        return {"versions": list(self.version.ids), "roles": list(self.roles), "since": first_id(self.since),
                "mature": first_id(mature)}  # fmt: skip


async def read_version(connection: AsyncConnection[Any], model: str, version: str) -> Version:
    """Return a version; without ids if the log has no decision of it."""
    rows = await _rows(connection, "SELECT id, contract FROM model_versions WHERE name = %(name)s AND version = "
                       "%(version)s", {"name": model, "version": version})  # fmt: skip
    grades = max((len(read_contract(contract).grades) for _, contract in rows), default=0)
    return Version(tuple(id_ for id_, _ in rows), grades)


async def read_scores(connection: AsyncConnection[Any], arm: Arm, mature: datetime) -> Scores:
    """Return an arm's PDs, with the outcomes of decisions that are older than `mature`."""
    rows = await _rows(connection, _SCORES, arm.parameters(mature))
    columns = np.array([row[1:] for row in rows], np.float64).reshape(-1, 4).T
    return Scores(*columns)


async def read_reasons(connection: AsyncConnection[Any], arm: Arm) -> dict[str, int]:
    """Return how often an arm named each reason first, among the decisions that were asked for reasons."""
    return {str(reason): int(count) for reason, count in await _rows(connection, _REASONS, arm.parameters(arm.since))}


async def newest_decision(connection: AsyncConnection[Any], arm: Arm) -> datetime | None:
    """Return when an arm's newest decision in the log was made; None if there is none."""
    rows = await _rows(connection, _NEWEST, arm.parameters(arm.since))
    return time_of(rows[0][0]) if rows else None


async def read_grades(connection: AsyncConnection[Any], version: Version, mature: datetime) -> list[GradeCount]:
    """Return the loans by grade that a version granted before `mature`, whenever that was."""
    rows = await _rows(connection, _GRADES, {"versions": list(version.ids), "mature": first_id(mature)})
    return [GradeCount(grade, loans, defaulted, pd or 0.0, left) for grade, loans, defaulted, pd, left in rows]


async def _rows(connection: AsyncConnection[Any], query: str, parameters: dict[str, Any]) -> Sequence[Any]:
    cursor = await connection.execute(query.encode(), parameters)
    return await cursor.fetchall()
