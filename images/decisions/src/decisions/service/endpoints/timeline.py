"""GET and POST /v1/models/{name}/timeline."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi import Query as InQuery
from pydantic import Field

from decisions.reading.timeline import KeptEvent, Timeline, TimelineEvent, add_event, is_known, read_timeline
from decisions.service.access import Reader, TimelineReporter
from decisions.service.endpoints.common import Query, Text, Time, problems, service_of
from decisions.service.problems import Problem, invalid_field

router = APIRouter(prefix="/v1/models/{name}/timeline", tags=["timeline"])
ModelName = Annotated[Text, Path(description="Of the registered model")]


class TimelineQuery(Query):
    """Which part of the timeline is wanted."""

    since: Time | None = Field(default=None, alias="from", description="From this time on, and what was in force then")
    until: Time | None = Field(default=None, alias="to", description="Before this time")
    limit: int = Field(default=1000, ge=1, le=10_000)


@router.get("", responses=problems(404), operation_id="getTimeline")
async def get_timeline(
    request: Request, _: Reader, name: ModelName, query: Annotated[TimelineQuery, InQuery()]
) -> Timeline:
    """Return which version was stable and which canary had what weight, from when to when, and why."""
    async with service_of(request).database.connection() as connection:
        found = await read_timeline(connection, name, query.since, query.until, query.limit)
        if not found.events and not await is_known(connection, name):
            raise Problem(404, f"nothing was reported about the model {name}")
    return found


@router.post("", responses=problems(400), operation_id="reportTimelineEvent")
async def post_event(request: Request, client: TimelineReporter, name: ModelName, event: TimelineEvent) -> KeptEvent:
    """Keep an event. Reporting it again, with the same id and content, changes nothing."""
    async with service_of(request).database.connection() as connection:
        kept = await add_event(connection, name, event, client)
    if not kept.says(event):
        raise invalid_field("event_id", "is that of another event", "a new id; an event that was kept does not change")
    return kept
