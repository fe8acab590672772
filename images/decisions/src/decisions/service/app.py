"""The public application and the one for the kubelet and Prometheus."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp

from decisions.checks.sql import Checker
from decisions.replay.engine import ReplayEngine
from decisions.service.access import Access, ApiKeys, TokenClients
from decisions.service.boundary import Boundary, Metrics
from decisions.service.database import Database
from decisions.service.drift_metrics import DriftMetrics
from decisions.service.endpoints import applicants, checks, decisions, drift, outcomes, replay, timeline, training
from decisions.service.endpoints.common import Service
from decisions.service.problems import ProblemDocument, handle_problems
from decisions.settings import ServeSettings

_DESCRIPTION = """What was decided about whom, when, by which model and why, and what became of the loan.

Each request needs an API key or token of a client that has the permission: `decisions:read` to read, `drift:read` to
read what drifted, `decisions:replay` to score again, `decisions:check` to compare versions, `decisions:forget` to
delete an applicant's inputs, `outcomes:write` and `timeline:write` to report."""


def create_service(settings: ServeSettings) -> Service:
    """Return a service whose database is not opened yet."""
    access = Access(ApiKeys(settings.access_dir), settings.permissions, _tokens(settings))
    downloads = asyncio.Semaphore(settings.training_downloads)
    metrics = Metrics()
    return Service(settings, Database(settings), access, metrics, downloads, ReplayEngine(settings),
                   DriftMetrics(metrics.registry), _checker(settings))  # fmt: skip


def _checker(settings: ServeSettings) -> Checker | None:
    conninfo = settings.checker_conninfo()
    return Checker(conninfo, settings.check_seconds) if conninfo else None


def _tokens(settings: ServeSettings) -> TokenClients | None:
    if not settings.oidc_issuer:
        return None
    # Imported here, because only those with an issuer should pay for the memory of its cryptography.
    from decisions.service.tokens import Tokens  # noqa: PLC0415

    return Tokens(settings)


def create_app(service: Service) -> ASGIApp:
    """Return the public application."""
    app = FastAPI(title="Credit-risk decisions", version="1", description=_DESCRIPTION, docs_url=None, redoc_url=None,
                  redirect_slashes=False)  # fmt: skip
    app.state.service = service
    for module in (decisions, replay, outcomes, timeline, checks, drift, applicants, training):
        app.include_router(module.router)
    handle_problems(app)
    _describe_problems(app)
    return Boundary(app, service.metrics, service.settings.max_body_bytes)


def create_management_app(service: Service) -> FastAPI:
    """Return the application with probes and metrics."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def alive() -> Response:
        return PlainTextResponse("alive")

    @app.get("/readyz")
    async def ready() -> Response:
        problem = await service.database.problem()
        return PlainTextResponse(problem or "ready", 503 if problem else 200)

    @app.get("/metrics")
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        await service.drift.refresh(service.database)
        encode, media_type = choose_encoder(accept)
        return Response(encode(service.metrics.registry), media_type=media_type)

    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the problem's schema into the OpenAPI document, to which the endpoints' errors refer."""
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas[ProblemDocument.__name__] = problem
