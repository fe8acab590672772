"""GET /v1/decisions and /v1/decisions/{id}."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi import Query as InQuery
from pydantic import BaseModel, Field

from decisions.errors import DifferenceError, UsageError
from decisions.reading.decisions import (
    Decision,
    Filter,
    ReportedOutcome,
    Role,
    get_decision,
    list_decisions,
    list_outcomes,
)
from decisions.reading.pages import decode_cursor, encode_cursor
from decisions.reading.proofs import NotSealedError, Proof, get_proof
from decisions.service.access import Reader
from decisions.service.endpoints.common import Query, Text, Time, problems, service_of
from decisions.service.problems import Problem, invalid_field

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])


class DecisionQuery(Query):
    """Which decisions are wanted."""

    applicant_id: Text | None = None
    request_id: Text | None = None
    since: Time | None = Field(default=None, alias="from", description="Decided at this time or later")
    until: Time | None = Field(default=None, alias="to", description="Decided before this time")
    version: Text | None = Field(default=None, description="Of the model")
    role: Role | None = None
    cursor: Text | None = Field(default=None, description="next_cursor of the page before")
    limit: int = Field(default=100, ge=1, le=1000)


class DecisionPage(BaseModel):
    """Decisions, newest first."""

    decisions: list[Decision]
    next_cursor: str | None = Field(description="null on the last page")


@router.get("", responses=problems(), operation_id="listDecisions")
async def get_page(request: Request, _: Reader, query: Annotated[DecisionQuery, InQuery()]) -> DecisionPage:
    """List decisions by applicant, request, time, version and role, newest first."""
    try:
        after = None if query.cursor is None else decode_cursor(query.cursor)
    except UsageError as error:
        raise invalid_field("cursor", "is invalid", str(error)) from error
    wanted = Filter(query.applicant_id, query.request_id, query.since, query.until, query.version, query.role, after)
    async with service_of(request).database.connection() as connection:
        # One more than asked for says whether there is another page.
        found = await list_decisions(connection, wanted, query.limit + 1)
    page = found[: query.limit]
    more = len(found) > len(page)
    return DecisionPage(decisions=page, next_cursor=encode_cursor(page[-1].decision_id) if more else None)


@router.get("/{decision_id}", responses=problems(404), operation_id="getDecision")
async def get_one(request: Request, _: Reader, decision_id: UUID) -> Decision:
    """Return one decision."""
    async with service_of(request).database.connection() as connection:
        found = await get_decision(connection, decision_id)
    if found is None:
        raise absent(decision_id)
    return found


@router.get("/{decision_id}/outcomes", responses=problems(404), operation_id="listOutcomesOfDecision")
async def get_outcomes(request: Request, _: Reader, decision_id: UUID) -> list[ReportedOutcome]:
    """Return everything that was reported about a decision's loan, the outcome observed last first."""
    async with service_of(request).database.connection() as connection:
        found = await list_outcomes(connection, decision_id)
        if not found and await get_decision(connection, decision_id) is None:
            raise absent(decision_id)
    return found


@router.get("/{decision_id}/proof", responses=problems(404, 409), operation_id="getProofOfDecision")
async def get_proof_of(request: Request, _: Reader, decision_id: UUID) -> Proof:
    """Return what proves that a decision is in a seal, for others to check without the database."""
    async with service_of(request).database.connection() as connection:
        try:
            found = await get_proof(connection, decision_id)
        except NotSealedError as error:
            raise Problem(409, f"the decision {decision_id} is not sealed yet: the daily archive does that on the day "
                               "after it was made") from error  # fmt: skip
        except DifferenceError as error:
            raise Problem(409, str(error)) from error
    if found is None:
        raise absent(decision_id)
    return found


def absent(decision_id: UUID) -> Problem:
    """Return a 404 about a decision."""
    return Problem(404, f"there is no decision {decision_id}: it was never made, is not in the database yet, or its "
                        "month was moved to the archive")  # fmt: skip
