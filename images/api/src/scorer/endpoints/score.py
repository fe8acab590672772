"""POST /v1/score: one application. On plain ASGI, because every request of a lender takes this path."""

from __future__ import annotations

import time

import msgspec

from scorer.answers import Score
from scorer.canary.client import APPLICANT, FORWARDED, role_of
from scorer.canary.router import Router
from scorer.contract import Contract
from scorer.decision_log.origin import Origin
from scorer.endpoints.openapi import Document, json_content, problems, reference
from scorer.endpoints.query import Query, describe_query, read_query
from scorer.http.asgi import (
    Receive,
    RequestIds,
    Scope,
    Send,
    check_media_type,
    header_text,
    media_type,
    read_body,
    send_answer,
)
from scorer.http.dispatcher import BODY_COMPLETE, HEADERS
from scorer.http.media_types import JSON
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import ScoreOne

PATH = "/v1/score"
_encode = msgspec.json.Encoder().encode
_FORWARDED, _APPLICANT = FORWARDED.encode(), APPLICANT.encode()


class ScoreEndpoint:
    """An ASGI application with one endpoint."""

    def __init__(self, context: ScoringContext, score: ScoreOne, router: Router | None, max_body_bytes: int) -> None:
        """Take what scores an application, and the router if there can be a canary."""
        self._slot, self._metrics = context.slot, context.metrics
        self._score_here, self._router, self._limit = score, router, max_body_bytes
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Problem: If the request is refused.
            ClientGoneError: If the client disconnected.
        """
        headers: dict[bytes, bytes] = scope[HEADERS]
        check_media_type(media_type(headers), (JSON,))
        query: bytes = scope["query_string"]
        asked = read_query(query, self._slot.require().contract.max_reasons) if query else Query()
        body = await read_body(receive, self._limit)
        scope[BODY_COMPLETE] = started = time.perf_counter()
        applicant, mark = headers.get(_APPLICANT), headers.get(_FORWARDED)
        origin = Origin(
            self._ids.of(headers), "score", started, role_of(mark), header_text(applicant) if applicant else None
        )
        score = await self._score(origin, body, query, asked)
        encoded = score if isinstance(score, bytes) else _encode(score)
        self._metrics.answered(200, started, origin.request_id)
        await send_answer(send, encoded)

    async def _score(self, origin: Origin, body: bytes, query: bytes, asked: Query) -> Score | bytes:
        router, (reasons, warnings) = self._router, asked
        if router is None or router.canary is None or origin.role != "champion":
            return await self._score_here(body, origin, reasons, warnings=warnings)
        return await router.answer(
            router.canary, origin, body,
            lambda origin: self._score_here(body, origin, reasons, warnings=warnings), query.decode("latin-1"),
        )  # fmt: skip


def operation(contract: Contract | None) -> Document:
    """Return the endpoint's description for OpenAPI, with the limits of the loaded model."""
    return {
        "tags": ["scoring"],
        "summary": "Score one loan application",
        "operationId": "score",
        "parameters": [
            *describe_query(contract, reasons=True),
            {
                "name": "X-Request-Id",
                "in": "header",
                "description": "Returned as request_id; without it the service assigns one",
                "schema": {"type": "string", "maxLength": 128},
            },
        ],
        "requestBody": {"required": True, "content": json_content(reference("Application"))},
        "responses": {
            "200": {
                "description": "The probability of default, its score points, the decision and the reasons",
                "content": json_content(reference("Score")),
            },
            **problems("400", "413", "415", "422", "503"),
        },
    }
