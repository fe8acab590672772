"""What the endpoints share: the service that they belong to, types of parameters, and the errors they may answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

from decisions.checks.sql import Checker
from decisions.replay.engine import ReplayEngine
from decisions.service.access import Access
from decisions.service.boundary import Metrics
from decisions.service.database import Database
from decisions.service.drift_metrics import DriftMetrics
from decisions.service.problems import MEDIA_TYPE, ProblemDocument
from decisions.settings import ServeSettings
from decisions.times import utc_time


@dataclass(frozen=True)
class Service:
    """What answers requests."""

    settings: ServeSettings
    database: Database
    access: Access
    metrics: Metrics
    downloads: asyncio.Semaphore
    replays: ReplayEngine
    drift: DriftMetrics
    # None: no SQL of ModelPromotions.
    checker: Checker | None = None

    async def close(self) -> None:
        """Give back connections, processes and files."""
        await self.replays.close()
        if self.access.tokens:
            await self.access.tokens.close()
        await self.database.close()


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    return cast("Service", request.app.state.service)


class Query(BaseModel):
    """A query string; a parameter that it does not know is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


def _time(value: object) -> object:
    if isinstance(value, str):
        return utc_time(value)
    return value


Time = Annotated[datetime, BeforeValidator(_time)]
# Postgres keeps no NUL.
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")]

_DESCRIPTIONS = {
    400: "The body cannot be read",
    401: "No valid API key",
    403: "The client lacks the permission",
    404: "There is no such thing",
    408: "The body did not arrive in time",
    409: "It cannot be done as things are; the detail says why",
    413: "The body is too large",
    415: "The body's media type or charset is not one that the endpoint reads",
    422: "The request is invalid; `errors` names the fields",
    424: "The model version's files cannot be had, or cannot score this",
    500: "The service failed",
    502: "The model version's files are not those that the decision was made with",
    503: "The database does not answer, or not in time; or something else that is needed does not now",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of an endpoint: these, and those that every endpoint may answer."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: schema}}
        for status in sorted({401, 403, 408, 413, 422, 500, 503, *statuses})
    }
