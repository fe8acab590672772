"""POST /v1/checks: numbers by which a canary is judged, from the decision log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import psycopg
from fastapi import APIRouter, Request

from decisions.checks.checks import check
from decisions.checks.model import CheckAnswer, CheckRequest
from decisions.checks.sql import RefusedError
from decisions.service.access import CheckClient
from decisions.service.endpoints.common import problems, service_of
from decisions.service.problems import Problem, invalid_field

router = APIRouter(tags=["checks"])
log = logging.getLogger(__name__)


@router.post("/v1/checks", responses=problems(400, 409), operation_id="check")
async def post_check(request: Request, _: CheckClient, wanted: CheckRequest) -> CheckAnswer:
    """Compare a canary with the champion, and bound what is found.

    `EstimatedAUC`: by how much the canary separates worse. `GradeCalibration`: by how much more of its loans default
    than its PDs say. `ReasonDrift`: how far its principal reasons are from the champion's. `SQL`: one number of a query
    on the views `check_decisions` and `check_outcomes`, if that is switched on.
    """
    service = service_of(request)
    if wanted.type == "SQL":
        return await _sql(request, wanted)
    seconds = service.settings.check_seconds
    async with service.database.connection() as connection:
        try:
            async with connection.transaction():
                # Whoever asks does so again before long, and waits no longer than this.
                await connection.execute(f"SET LOCAL statement_timeout = {seconds * 1000}".encode())
                return await check(connection, wanted, datetime.now(UTC))
        except psycopg.errors.QueryCanceled as error:
            raise Problem(503, f"the check took longer than {seconds} s") from error


async def _sql(request: Request, wanted: CheckRequest) -> CheckAnswer:
    checker = service_of(request).checker
    if checker is None:
        raise Problem(409, "SQL checks are off; switch them on with the value decisions.checks.sql")
    try:
        return await checker.run(wanted)
    except RefusedError as error:
        raise invalid_field("query", f"was refused: {error}", "one SELECT that returns one number") from error
    except psycopg.OperationalError as error:
        log.warning("SQL checks: %s", error)
        raise Problem(503, "the database does not answer to SQL checks") from error
