"""The HTTP edge: routes, headers and status codes around the scoring."""

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from scorer.application import allowed_values
from scorer.canary import APPLICANT, FORWARDED, Router
from scorer.contract import CategoricalFeature, Contract
from scorer.loader import ModelSlot
from scorer.metrics import Metrics
from scorer.problems import Problem
from scorer.scoring import Score, model_of, score_application
from scorer.settings import Settings

PROBLEM_JSON = "application/problem+json"


def create_app(settings: Settings, slot: ModelSlot, metrics: Metrics, router: Router | None = None) -> FastAPI:
    """Return the public application: scoring, the model's description, and its documentation."""
    app = FastAPI(title="Credit-risk scoring", version="1", docs_url="/docs", redoc_url=None)
    _add_problem_answers(app)
    _add_probes(app, slot)

    @app.post("/v1/score", tags=["scoring"], summary="Score one loan application", openapi_extra=_SCORE_OPENAPI)
    async def score(request: Request) -> Response:
        body = await _json_body(request, settings.max_body_bytes)
        started = time.perf_counter()
        request_id = request.headers.get("x-request-id") or uuid.uuid4().hex
        status = 500
        try:
            canary = router.canary if router else None
            if router is None or canary is None or FORWARDED in request.headers:
                answer: Score | bytes = score_application(body, request_id, model_of(slot), settings.pod_name, metrics)
            else:
                answer = await router.answer(
                    canary, request.headers.get(APPLICANT), request_id, body,
                    lambda: score_application(body, request_id, model_of(slot), settings.pod_name, metrics),
                )  # fmt: skip
            status = 200
            return Response(answer, media_type="application/json") if isinstance(answer, bytes) else _json(answer)
        except Problem as problem:
            status = problem.status
            raise
        finally:
            metrics.latency.observe(time.perf_counter() - started)
            metrics.requests.labels(status).inc()

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

    _describe_application(app, slot)
    return app


def create_management_app(slot: ModelSlot, metrics: Metrics) -> FastAPI:
    """Return what the kubelet and Prometheus ask; it has a port of its own, which no ingress leads to."""
    app = FastAPI(title="Credit-risk scoring, management", docs_url=None, redoc_url=None, openapi_url=None)
    _add_problem_answers(app)
    _add_probes(app, slot)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        if slot.model:
            metrics.model.labels(slot.model.identity.name, slot.model.identity.version).set(1)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


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
    async def answer_problem(_: Request, problem: Problem) -> Response:
        return Response(problem.body(), problem.status, dict(problem.headers), media_type=PROBLEM_JSON)

    @app.exception_handler(HTTPException)
    async def answer_http(_: Request, error: HTTPException) -> Response:
        problem = Problem(error.status_code, str(error.detail))
        return Response(problem.body(), problem.status, dict(error.headers or {}), media_type=PROBLEM_JSON)

    @app.exception_handler(Exception)
    async def answer_fault(_: Request, __: Exception) -> Response:
        return Response(Problem(500, "the service failed; its log says why").body(), 500, media_type=PROBLEM_JSON)


async def _json_body(request: Request, limit: int) -> bytes:
    """Read a request's body.

    Raises:
        Problem: 415 for another type than JSON, 413 above the limit.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, f"the body is {media_type or 'of no type'}; allowed is application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Problem(413, f"the body is larger than {limit} bytes")
    return bytes(body)


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type="application/json")


_SCORE_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Application"}}},
    },
    "responses": {
        "200": {
            "description": "The probability of default and the decision",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["request_id", "probability_of_default", "decision", "model", "served_by"],
                        "properties": {
                            "request_id": {"type": "string"},
                            "probability_of_default": {"type": "number", "minimum": 0, "maximum": 1},
                            "decision": {"enum": ["approve", "decline"]},
                            "model": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
                            },
                            "served_by": {"type": "string"},
                        },
                    }
                }
            },
        },
        **{
            status: {"description": text, "content": {PROBLEM_JSON: {"schema": {"type": "object"}}}}
            for status, text in {
                "400": "The body is not JSON",
                "413": "The body is too large",
                "415": "The body is of another type",
                "422": "Fields are wrong: each is named with what is allowed",
                "503": "No model is loaded yet",
            }.items()
        },
    },
}


def _describe_application(app: FastAPI, slot: ModelSlot) -> None:
    """Let the OpenAPI document show the fields of the very model that is loaded."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        contract = slot.model.contract if slot.model else None
        document.setdefault("components", {}).setdefault("schemas", {})["Application"] = _application_schema(contract)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _application_schema(contract: Contract | None) -> dict[str, Any]:
    if contract is None:
        return {"type": "object", "description": "Known once a model is loaded"}
    properties: dict[str, Any] = {}
    for feature in contract.features:
        about = f"{feature.description}: {allowed_values(feature)}"
        if isinstance(feature, CategoricalFeature):
            properties[feature.name] = {"enum": list(feature.categories), "description": about}
        else:
            properties[feature.name] = {
                "type": "number", "minimum": feature.minimum, "maximum": feature.maximum, "description": about,
            }  # fmt: skip
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, "applicant_id": {"type": ["string", "null"]}},
        "additionalProperties": False,
        "example": contract.reference_applicant,
    }
