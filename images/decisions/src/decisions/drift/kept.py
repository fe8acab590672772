"""Reports in the database: one row each, of which the newest of a model counts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
from psycopg import AsyncConnection

from decisions.drift.document import DriftReport

_NEWEST = """
SELECT document::text FROM drift_reports WHERE model = %s ORDER BY created_at DESC LIMIT 1
"""
_TIMES = "SELECT model, max(created_at) FROM drift_reports GROUP BY 1 ORDER BY 1"


def keep(connection: psycopg.Connection, report: DriftReport) -> None:
    """Insert a report; one that is there already stays."""
    connection.execute(
        "INSERT INTO drift_reports VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [report.model, report.created_at, report.version, report.verdict, report.model_dump_json()],
    )


async def newest(connection: AsyncConnection[Any], model: str) -> DriftReport | None:
    """Return a model's newest report; None if it has none."""
    row = await (await connection.execute(_NEWEST, [model])).fetchone()
    return DriftReport.model_validate_json(row[0]) if row else None


async def times_of_newest(connection: AsyncConnection[Any]) -> dict[str, datetime]:
    """Return when the newest report of each model was made."""
    return dict(await (await connection.execute(_TIMES)).fetchall())
