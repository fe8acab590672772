"""GET /v1/training-data: decisions with their outcomes, as the trainer reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi import Query as InQuery
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from decisions.errors import UsageError
from decisions.outcomes.formats import CSV, PARQUET
from decisions.reading.tables import file_pieces
from decisions.reading.training_data import TrainingQuery, TrainingSummary, TrainingTable, open_table
from decisions.service.access import Reader
from decisions.service.endpoints.common import Query, Text, Time, problems, service_of
from decisions.service.problems import Problem, invalid_field

router = APIRouter(tags=["training data"])
SUMMARY_HEADER = "Training-Data"
_MEDIA_TYPES = {"parquet": PARQUET, "csv": CSV}
_MONTHS = r"^[0-9]{1,3}m$"
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The table; the header {SUMMARY_HEADER} is its summary",
        "model": TrainingSummary,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in (PARQUET, CSV)},
    }
}


class TrainingDataQuery(Query):
    """Which decisions are wanted, and how the table is written."""

    since: Time | None = Field(default=None, alias="from", description="Decided at this time or later")
    until: Time | None = Field(default=None, alias="to", description="Decided before this time")
    matured: str = Field(default="12m", pattern=_MONTHS, description="How old a decision must be, in months")
    format: Literal["parquet", "csv", "summary"] = "parquet"
    target: Text = Field(default="outcome", description="The name of the column with the outcome")
    repaid: Text = Field(default="repaid", description="The target's label of a loan that was repaid")
    defaulted: Text = Field(default="defaulted", description="The target's label of a loan that defaulted")
    include: Literal["", "rejected"] = Field(
        default="",
        description="`rejected`: also the matured rejected applicants, without an outcome, and with everybody's "
        "probability of default as it was answered",
    )


class _TableResponse(StreamingResponse):
    """A file that is written while it is sent; whatever happens, its connection is given back."""

    def __init__(self, table: TrainingTable, form: Literal["parquet", "csv"], resources: AsyncExitStack) -> None:
        headers = {SUMMARY_HEADER: _header(table.summary),
                   "Content-Disposition": f'attachment; filename="training-data.{form}"'}  # fmt: skip
        super().__init__(_pieces(table, form), headers=headers, media_type=_MEDIA_TYPES[form])
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            await super().__call__(scope, receive, send)


@router.get("/v1/training-data", responses={**_CONTENT, **problems()}, operation_id="getTrainingData")
async def get_training_data(request: Request, _: Reader, query: Annotated[TrainingDataQuery, InQuery()]) -> Response:
    """Return matured decisions with inputs and outcomes as Parquet or CSV, or only how many there are.

    Shadow decisions are left out. Rejected applicants have no outcome, so the table says nothing about them,
    unless they are asked for.
    """
    if query.repaid == query.defaulted:
        raise invalid_field("defaulted", "is the label of repaid, too", "another label")
    downloads = service_of(request).downloads
    if downloads.locked():
        raise Problem(503, "too many downloads of training data are running", headers={"Retry-After": "60"})
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(downloads)
        connection = await resources.enter_async_context(service_of(request).database.connection())
        await resources.enter_async_context(connection.transaction())
        try:
            table = await open_table(connection, _training_query(query))
        except UsageError as error:
            raise invalid_field("target", "is the name of another column", str(error)) from error
        if query.format == "summary":
            return JSONResponse(table.summary.model_dump(mode="json"))
        return _TableResponse(table, query.format, resources.pop_all())


def _training_query(query: TrainingDataQuery) -> TrainingQuery:
    return TrainingQuery(
        since=query.since, until=query.until, matured_months=int(query.matured[:-1]), as_of=datetime.now(UTC),
        target=query.target, repaid=query.repaid, defaulted=query.defaulted,
        include_rejected=query.include == "rejected",
    )  # fmt: skip


async def _pieces(table: TrainingTable, form: Literal["parquet", "csv"]) -> AsyncIterator[bytes]:
    async for piece in file_pieces(table, form):
        if piece:
            yield piece


def _header(summary: TrainingSummary) -> str:
    """Return the summary without the columns' names, which may be many."""
    return json.dumps(summary.model_dump(mode="json", exclude={"columns"}), ensure_ascii=True)
