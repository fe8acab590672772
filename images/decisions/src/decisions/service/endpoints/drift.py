"""GET /v1/models/{name}/drift: the newest drift report, in short for programs, or all of it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from fastapi import Query as InQuery
from fastapi.responses import HTMLResponse, Response

from decisions.drift.document import DriftReport, DriftStatus
from decisions.drift.kept import newest
from decisions.drift.page import page
from decisions.service.access import DriftReader
from decisions.service.endpoints.common import Query, Text, problems, service_of
from decisions.service.problems import Problem

router = APIRouter(prefix="/v1/models/{name}/drift", tags=["drift"])
ModelName = Annotated[Text, Path(description="Of the registered model")]


class ReportQuery(Query):
    """How the report is written."""

    format: Literal["html", "json"] = "html"


@router.get("", responses=problems(404), operation_id="getDrift")
async def get_drift(request: Request, _: DriftReader, name: ModelName) -> DriftStatus:
    """Return what the newest report found: whether something drifted, what, since when, and what to do."""
    return (await _newest(request, name)).status


@router.get(
    "/report",
    responses={**problems(404), 200: {"model": DriftReport, "content": {"text/html": {"schema": {"type": "string"}}}}},
    operation_id="getDriftReport",
)
async def get_report(
    request: Request, _: DriftReader, name: ModelName, query: Annotated[ReportQuery, InQuery()]
) -> Response:
    """Return the newest report as one HTML file, or as JSON."""
    report = await _newest(request, name)
    if query.format == "html":
        return HTMLResponse(page(report))
    return Response(report.model_dump_json(), media_type="application/json")


async def _newest(request: Request, name: str) -> DriftReport:
    async with service_of(request).database.connection() as connection:
        report = await newest(connection, name)
    if report is None:
        raise Problem(
            404, f"there is no drift report about the model {name}; `python -m decisions drift --publish` makes one"
        )
    return report
