"""The HTTP edge: which path leads where."""

from __future__ import annotations

import copy
import sys
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from scorer.canary.router import Router
from scorer.endpoints.batch import BatchEndpoint
from scorer.endpoints.mlflow import add_mlflow_protocol
from scorer.endpoints.open_inference import add_open_inference
from scorer.endpoints.openapi import describe
from scorer.endpoints.pages import add_pages
from scorer.endpoints.score import ScoreEndpoint
from scorer.http.asgi import PROBLEM_JSON, App, ClientGoneError, Receive, Scope, Send
from scorer.metrics import Metrics
from scorer.model.loader import ModelSlot
from scorer.model.scorecard import Scorecard
from scorer.problems import Problem
from scorer.scoring.audit_log import AuditLog
from scorer.scoring.batch import BatchScorer
from scorer.scoring.single import Scorer, model_of
from scorer.settings import Settings

SCORE_PATH = "/v1/score"
BATCH_PATH = "/v1/score/batch"


class Front:
    """Leads single applications past FastAPI's routing, which costs as much as the scoring; all else goes there."""

    def __init__(self, score: App, rest: FastAPI) -> None:
        """Take the endpoint of single applications, and the application that answers all else."""
        self._score, self._rest = score, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        if scope["type"] == "http" and scope["path"] == SCORE_PATH and scope["method"] == "POST":
            await self._score(scope, receive, send)
        else:
            await self._rest(scope, receive, send)


def create_app(settings: Settings, slot: ModelSlot, metrics: Metrics, router: Router | None = None) -> App:
    """Return the public application: scoring, the model's description, and its documentation.

    It is one ASGI callable; what guards it (access, limits) wraps it.
    """
    scorecard = Scorecard(settings.base_points, settings.base_odds, settings.pdo)
    audit = AuditLog(sys.stdout.buffer) if settings.audit_log else None
    scorer = Scorer(slot, scorecard, settings.pod_name, metrics, audit)
    score = ScoreEndpoint(scorer, router, settings.max_body_bytes)
    batches = BatchScorer(scorer)

    app = FastAPI(title="Credit-risk scoring", version="1", docs_url=None, redoc_url=None)
    _add_problem_answers(app)
    # Known to the router too, so that other methods are refused as such.
    app.router.routes.append(Route(SCORE_PATH, score, methods=["POST"]))
    batch = BatchEndpoint(batches, settings.max_body_bytes, settings.max_batch_bytes)
    app.router.routes.append(Route(BATCH_PATH, batch, methods=["POST"]))
    add_mlflow_protocol(app, batches, settings.max_batch_bytes)
    add_open_inference(app, batches, settings.max_batch_bytes)

    _add_model(app, slot)
    add_pages(app)
    _describe(app, slot)
    return Front(score, app)


def create_management_app(slot: ModelSlot, metrics: Metrics) -> FastAPI:
    """Return what the kubelet and Prometheus ask; it has a port of its own, which no ingress leads to."""
    app = FastAPI(title="Credit-risk scoring, management", docs_url=None, redoc_url=None, openapi_url=None)
    _add_problem_answers(app)
    _add_probes(app, slot)
    # Here too, where the operator reads it without a key.
    _add_model(app, slot)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        if slot.model:
            metrics.model.labels(slot.model.identity.name, slot.model.identity.version).set(1)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _add_model(app: FastAPI, slot: ModelSlot) -> None:
    @app.get("/v1/model", tags=["model"], summary="Describe the model that is served")
    async def model() -> Response:
        loaded = model_of(slot)
        identity = loaded.identity
        return _json({
            "name": identity.name,
            "version": identity.version,
            "run_id": identity.run_id,
            "digests": identity.digests,
            "metrics": identity.metrics,
            "contract": loaded.contract,
        })  # fmt: skip


def _add_probes(app: FastAPI, slot: ModelSlot) -> None:
    @app.get("/healthz", tags=["health"], summary="Alive: the process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"], summary="Ready: a model is loaded and the pod is not shutting down")
    async def readyz() -> dict[str, str]:
        if reason := slot.not_ready:
            raise Problem(503, f"not ready: {reason}")
        return {"status": "ready"}


def _add_problem_answers(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def answer_problem(request: Request, problem: Problem) -> Response:
        # The Open Inference Protocol's clients read the message from a member of their own.
        extension = {"error": problem.detail} if request.url.path.startswith("/v2") else {}
        return Response(problem.body(extension), problem.status, dict(problem.headers), media_type=PROBLEM_JSON)

    @app.exception_handler(HTTPException)
    async def answer_http(_: Request, error: HTTPException) -> Response:
        problem = Problem(error.status_code, str(error.detail))
        return Response(problem.body(), problem.status, dict(error.headers or {}), media_type=PROBLEM_JSON)

    @app.exception_handler(ClientGoneError)
    async def answer_nobody(_: Request, __: ClientGoneError) -> Response:
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def answer_fault(_: Request, __: Exception) -> Response:
        return Response(Problem(500, "the service failed; its log says why").body(), 500, media_type=PROBLEM_JSON)


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")


def _describe(app: FastAPI, slot: ModelSlot) -> None:
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        return describe(copy.deepcopy(plain()), slot.model.contract if slot.model else None)

    app.openapi = openapi  # type: ignore[method-assign]
