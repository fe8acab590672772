"""The public application and the management application: which path leads where."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

import msgspec
from fastapi import FastAPI, Header, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from prometheus_client.exposition import choose_encoder
from starlette.routing import Route
from starlette.types import ASGIApp

from scorer.canary.router import Router
from scorer.decision_log.log import DecisionLog
from scorer.endpoints import batch, mlflow, open_inference, score
from scorer.endpoints.ndjson import StreamLimits
from scorer.endpoints.openapi import describe
from scorer.endpoints.pages import PAGES, add_pages
from scorer.http.asgi import App
from scorer.http.content_coding import CodedBodies
from scorer.http.cors import Cors
from scorer.http.dispatcher import Admission, BodyBudget, DirectRoute, Dispatcher
from scorer.http.methods import Methods
from scorer.http.root_path import RootPath
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot
from scorer.model.scorecard import Scorecard
from scorer.problems import Problem
from scorer.scoring.audit_log import AuditLog
from scorer.scoring.batch import BatchScorer
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import BatchScoring, ScoreOne
from scorer.scoring.single import SingleScorer
from scorer.settings import Settings

# So many of the largest bodies may wait for their answers at the same time.
MAX_LARGEST_BODIES = 4

# Open to all clients: pages without data, the API's description, and the protocols' health checks.
OPEN_PATHS = frozenset({*PAGES, "/openapi.json", *mlflow.OPEN_PATHS, *open_inference.OPEN_PATHS})


@dataclass(frozen=True)
class Parts:
    """Makes the application's parts. Tracing has parts of its own, so that these need not ask whether it is on.

    Attributes:
        single: Makes what scores single applications.
        batches: Makes what scores batches.
        audit_log: Makes the audit log.
        requests: Returns what takes the requests for an application that has these paths beside the framework's.
    """

    single: Callable[[ScoringContext], ScoreOne] = lambda context: SingleScorer(context).score
    batches: Callable[[ScoringContext], BatchScoring] = BatchScorer
    audit_log: Callable[[BinaryIO], AuditLog] = AuditLog
    requests: Callable[[App, Collection[str]], App] = lambda app, own_paths: app  # noqa: ARG005


class _Routes(FastAPI):
    """FastAPI without its own error answers and redirects: whatever an endpoint raises reaches the dispatcher."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the router with only the middleware that FastAPI's endpoints need."""
        return Methods(AsyncExitStackMiddleware(self.router), self.router.routes)


def create_app(
    settings: Settings,
    slot: ModelSlot,
    metrics: Metrics,
    router: Router | None = None,
    admission: Admission | None = None,
    decisions: DecisionLog | None = None,
    parts: Parts | None = None,
) -> App:
    """Return the public application: scoring, the model's description, and the documentation.

    Args:
        settings: The process's settings.
        slot: Holds the model.
        metrics: Counts answers.
        router: Routes applications to a canary; without one, everything is answered here.
        admission: Access control; without it, all clients are admitted.
        decisions: Keeps decisions; None if they are not to be logged.
        parts: Makes what it consists of; None for the plain parts.
    """
    parts = parts or Parts()
    scorecard = Scorecard(settings.base_points, settings.base_odds, settings.pdo)
    audit = parts.audit_log(sys.stdout.buffer) if settings.audit_log else None
    context = ScoringContext(slot, scorecard, settings.pod_name, metrics, audit, decisions)
    batches = parts.batches(context)
    score_one = score.ScoreEndpoint(context, parts.single(context), router, settings.max_body_bytes)
    score_batch = batch.BatchEndpoint(context, batches, StreamLimits(settings.max_body_bytes, settings.max_batch_bytes))

    app = _Routes(title="Credit-risk scoring", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    # Known to the router too, so that it refuses other methods with a 405.
    app.router.routes.append(Route(score.PATH, score_one, methods=["POST"]))
    app.router.routes.append(Route(batch.PATH, score_batch, methods=["POST"]))
    mlflow.add_mlflow_protocol(app, context, batches, settings.max_batch_bytes)
    open_inference.add_open_inference(app, context, batches, settings.max_batch_bytes)
    _add_model(app, slot)
    add_pages(app)
    _complete_openapi(app, slot, settings.root_path)
    direct = DirectRoute("POST", score.PATH, score_one, metrics.answered)
    budget = BodyBudget(MAX_LARGEST_BODIES * settings.max_batch_bytes, metrics.load.bodies.inc)
    dispatcher = Dispatcher(app, direct, admission, budget, CodedBodies(settings.max_batch_bytes))
    return _published(parts.requests(dispatcher, (score.PATH, batch.PATH)), settings)


def _published(app: App, settings: Settings) -> App:
    """Return the application as clients reach it."""
    if settings.cors_allowed_origins:
        # Before access control: a preflight request has no credential.
        app = Cors(app, settings.cors_allowed_origins)
    return RootPath(app, settings.root_path) if settings.root_path else app


def create_management_app(slot: ModelSlot, metrics: Metrics, decisions: DecisionLog | None = None) -> App:
    """Return what the kubelet, Prometheus and the operator read, on a port of its own that no ingress leads to."""
    app = _Routes(
        title="Credit-risk scoring, management", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    _add_probes(app, slot, decisions)
    # Here too, so that the operator can read it without a key.
    _add_model(app, slot)

    @app.get("/metrics")
    async def read_metrics(accept: Annotated[str, Header()] = "") -> Response:
        metrics.ready.set(not slot.not_ready)
        if model := slot.model:
            metrics.serving(model.identity.name, model.identity.version, model.contract.score_histogram)
        encode, media_type = choose_encoder(accept)
        return Response(encode(metrics.registry), media_type=media_type)

    return Dispatcher(app)


def _add_model(app: FastAPI, slot: ModelSlot) -> None:
    @app.get("/v1/model", tags=["model"], summary="Describe the served model")
    async def model() -> Response:
        loaded = slot.require()
        identity = loaded.identity
        return _json({
            "name": identity.name,
            "version": identity.version,
            "run_id": identity.run_id,
            "digests": identity.digests,
            "metrics": identity.metrics,
            "contract": loaded.contract,
        })  # fmt: skip


def _add_probes(app: FastAPI, slot: ModelSlot, decisions: DecisionLog | None) -> None:
    @app.get("/healthz", tags=["health"], summary="Whether the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], summary="Whether a model is loaded and the pod is not shutting down")
    async def readyz() -> dict[str, str]:
        if reason := slot.not_ready:
            raise Problem(503, f"not ready: {reason}", code=slot.readiness)
        # The pod stays ready: without ready pods, clients would not even learn why they get no answer.
        detail = {"detail": decisions.problem} if decisions and decisions.problem else {}
        return {"status": "ready", "code": slot.readiness, **detail}


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")


def _complete_openapi(app: FastAPI, slot: ModelSlot, root_path: str) -> None:
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        contract = slot.model.contract if slot.model else None
        operations = {score.PATH: score.operation(contract), batch.PATH: batch.operation(contract)}
        examples = (
            {"/invocations": mlflow.example(contract), "/infer": open_inference.example(contract)} if contract else {}
        )
        return describe(copy.deepcopy(plain()), contract, operations, examples, root_path)

    app.openapi = openapi  # type: ignore[method-assign]
