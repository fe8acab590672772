"""POST /v1/score: one application. Straight on ASGI, because every request of a lender passes here."""

from __future__ import annotations

import logging
import time

import msgspec

from scorer.canary.router import APPLICANT, FORWARDED, Router
from scorer.http.asgi import (
    JSON,
    ClientGoneError,
    Receive,
    RequestIds,
    Scope,
    Send,
    answer,
    answer_problem,
    check_media_type,
    integer_parameter,
    media_type,
    read_body,
)
from scorer.problems import Problem
from scorer.scoring.single import MOST_REASONS, Score, Scorer

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_FORWARDED, _APPLICANT = FORWARDED.encode(), APPLICANT.encode()


class ScoreEndpoint:
    """An ASGI application of one endpoint."""

    def __init__(self, scorer: Scorer, router: Router | None, max_body_bytes: int) -> None:
        """Take the scorer, and the router where there can be a canary."""
        self._scorer, self._router, self._limit = scorer, router, max_body_bytes
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        metrics, started = self._scorer.metrics, 0.0
        try:
            headers = dict(scope["headers"])
            check_media_type(media_type(headers), (JSON,))
            query: bytes = scope["query_string"]
            reasons = integer_parameter(query, "reasons", MOST_REASONS) if query else 0
            body = await read_body(receive, self._limit)
            started = time.perf_counter()
            scored = await self._score(headers, body, query, reasons)
            encoded = scored if isinstance(scored, bytes) else _encode(scored)
        except Problem as problem:
            metrics.answered(problem.status, started)
            await answer_problem(send, problem)
        except ClientGoneError:
            return
        except Exception:
            # The one place that may catch all: a fault of ours is an answer too, and no reason to drop the connection.
            log.exception("a request failed")
            metrics.answered(500, started)
            await answer_problem(send, Problem(500, "the service failed; its log says why"))
        else:
            metrics.answered(200, started)
            await answer(send, encoded)

    async def _score(self, headers: dict[bytes, bytes], body: bytes, query: bytes, reasons: int) -> Score | bytes:
        request_id = self._ids.of(headers)
        router = self._router
        if router is None or router.canary is None or _FORWARDED in headers:
            return await self._scorer.score(body, request_id, reasons)
        applicant = headers.get(_APPLICANT)
        return await router.answer(
            router.canary, applicant.decode("latin-1") if applicant else None, request_id, body,
            lambda: self._scorer.score(body, request_id, reasons), query.decode("latin-1"),
        )  # fmt: skip
