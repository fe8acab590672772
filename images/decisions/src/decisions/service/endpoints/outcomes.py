"""POST /v1/outcomes: what became of loans."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from decisions.errors import UsageError
from decisions.outcomes.formats import CSV, JSON, MEDIA_TYPES, NDJSON, PARQUET, read_rows
from decisions.outcomes.parquet import read_parquet
from decisions.outcomes.rows import FIELDS, OUTCOMES, RawRow
from decisions.outcomes.store import REJECTED_SHOWN, OutcomeLoad, batches_of
from decisions.service.access import OutcomeReporter
from decisions.service.endpoints.common import problems, service_of
from decisions.service.problems import Problem

router = APIRouter(tags=["outcomes"])
MAX_ROWS = 100_000
_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii"}
_EXAMPLE = {"decision_id": "019ac000-0000-7000-8000-000000000000", "outcome": "repaid", "observed_at": "2026-01-31"}
_ROW = {
    "type": "object",
    "properties": {
        "decision_id": {"type": "string", "format": "uuid"},
        "applicant_id": {"type": "string", "minLength": 1},
        "date": {"type": "string", "format": "date", "description": "Of the application (UTC), with applicant_id"},
        "outcome": {"enum": list(OUTCOMES)},
        "observed_at": {"type": "string", "description": "A date or time of ISO 8601; UTC if it names no zone"},
    },
    "required": ["outcome", "observed_at"],
    "additionalProperties": False,
    "examples": [_EXAMPLE],
}
_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": {"type": "array", "items": _ROW}},
        NDJSON: {"schema": {"type": "string", "description": "An object per line"}},
        CSV: {"schema": {"type": "string", "description": f"With a header of {', '.join(FIELDS)}"}},
        PARQUET: {"schema": {"type": "string", "format": "binary"}},
    },
}


class Rejected(BaseModel):
    """A row that was not taken."""

    row: int = Field(description="From 1, a header not counted")
    reason: str


class OutcomesTaken(BaseModel):
    """What became of the rows."""

    added: int
    known: int = Field(description="Rows that were reported before")
    rejected: int
    rejected_rows: list[Rejected] = Field(description=f"The first {REJECTED_SHOWN} of them")


@router.post("/v1/outcomes", responses=problems(400, 415), operation_id="reportOutcomes",
             openapi_extra={"requestBody": _BODY})  # fmt: skip
async def post_outcomes(request: Request, client: OutcomeReporter) -> OutcomesTaken:
    """Take outcomes by decision, or by applicant and date; rows that cannot be taken are listed, the others are kept.

    Sending a row again changes nothing. Of several outcomes of a loan, the one observed last counts; all are kept.
    """
    media_type = _media_type(request.headers.get("content-type", JSON))
    service = service_of(request)
    # Not on disk, except for Parquet: it is bounded, and the pod's file system may be read-only.
    body = b"".join([piece async for piece in request.stream()])
    try:
        rows = await asyncio.to_thread(_read, body, media_type)
    except UsageError as error:
        raise Problem(400, str(error)) from error
    async with service.database.connection() as connection:
        load = OutcomeLoad(connection, client)
        for batch in batches_of(rows):
            await load.add(batch)
    result = load.result
    for name, count in (("added", result.added), ("known", result.known), ("rejected", result.rejected)):
        service.metrics.outcomes.labels(name).inc(count)
    rejected = [Rejected(row=found.row, reason=found.reason) for found in result.rejected_rows]
    return OutcomesTaken(added=result.added, known=result.known, rejected=result.rejected, rejected_rows=rejected)


def _read(body: bytes, media_type: str) -> list[RawRow]:
    """Return all rows, so that a body that is refused changed nothing."""
    if media_type != PARQUET:
        return _bounded(read_rows(io.BytesIO(body), media_type))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes.parquet"
        path.write_bytes(body)
        return _bounded(read_parquet(path))


def _bounded(rows: Iterator[RawRow]) -> list[RawRow]:
    taken = list(islice(rows, MAX_ROWS + 1))
    if len(taken) > MAX_ROWS:
        raise Problem(413, f"the body has more than {MAX_ROWS} rows; send it in parts, or use load-outcomes")
    return taken


def _media_type(given: str) -> str:
    name, *parameters = (part.strip().lower() for part in given.split(";"))
    if name not in MEDIA_TYPES:
        allowed = ", ".join(MEDIA_TYPES)
        raise Problem(
            415, f"the body's media type is {name[:80] or 'empty'}; allowed: {allowed}", headers={"Accept": allowed}
        )
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        charset = value.strip('"')
        if key == "charset" and name != PARQUET and charset not in _CHARSETS:
            raise Problem(415, f"the body's charset is {charset[:80] or 'empty'}; allowed: utf-8")
    return name
