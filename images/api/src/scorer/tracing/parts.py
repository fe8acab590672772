"""The service's parts with spans around what they do. Each is the part that runs without tracing, and a little more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, TypeVar

import aiohttp
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.semconv.attributes.http_attributes import HTTP_REQUEST_METHOD
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from scorer.answers import Score
from scorer.applications.decoder import ApplicationDecoder
from scorer.applications.rows import CodeRows, FloatRows
from scorer.applications.tables import Rows
from scorer.canary.client import CanaryAnswer, CanaryClient
from scorer.canary.route import CanaryRoute
from scorer.decision_log.events import DecidedRows
from scorer.decision_log.log import DecisionLog, Mode
from scorer.decision_log.metrics import LogMetrics
from scorer.decision_log.origin import Origin
from scorer.decision_log.writer import SegmentWriter
from scorer.http.asgi import App
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, ScoredRows
from scorer.model.microbatch import Answer, MicroBatcher
from scorer.scoring.audit_log import AuditLog
from scorer.scoring.batch import BatchScorer
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import ScoreOne
from scorer.scoring.single import SingleScorer
from scorer.settings import Settings
from scorer.tracing import spans
from scorer.tracing.export import EXPORT_SECONDS, BoundedExport, RareWarnings, SpanMetrics, Spans
from scorer.tracing.requests import TracedRequests, sampled
from scorer.tracing.spans import child

Result = TypeVar("Result")
_inject = TraceContextTextMapPropagator().inject


class Traced:
    """Makes the parts, all with the same tracer."""

    def __init__(self, made: Spans, ratio: float) -> None:
        """Take what makes spans, and the share of requests that begin a trace."""
        self._made, self._tracer, self._ratio = made, made.tracer, ratio

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> Traced:
        """Return the parts of a process, which exports its spans to settings.tracing_endpoint from now on.

        The library's own environment variables say the rest, such as OTEL_EXPORTER_OTLP_TRACES_HEADERS.
        """
        library = logging.getLogger("opentelemetry")
        library.propagate, library.handlers = False, [RareWarnings()]
        for handler in logging.getLogger().handlers:
            handler.addFilter(add_ids)
        exporter = OTLPSpanExporter(settings.tracing_endpoint, timeout=EXPORT_SECONDS)
        export = BoundedExport(exporter, SpanMetrics(metrics.registry))
        return cls(Spans(export, settings.pod_name), settings.tracing_ratio)

    def requests(self, app: App, own_paths: Collection[str]) -> App:
        """Return an application with a span for each request to score."""
        return TracedRequests(app, self._tracer, self._ratio, own_paths)

    def single(self, context: ScoringContext) -> ScoreOne:
        """Return what scores single applications: without spans, except for requests that are sampled."""
        plain, traced = SingleScorer(context).score, _TracedSingleScorer(context, self._tracer).score

        def score(
            body: bytes, origin: Origin, reasons: int = 0, *, warnings: bool = True
        ) -> Coroutine[Any, Any, Score]:
            chosen = traced if sampled.get() else plain
            return chosen(body, origin, reasons, warnings=warnings)

        return score

    def batches(self, context: ScoringContext) -> BatchScorer:
        """Return what scores batches."""
        return _TracedBatchScorer(context, self._tracer)

    def audit_log(self, out: BinaryIO) -> AuditLog:
        """Return an audit log whose lines name the trace."""
        return _TracedAuditLog(out)

    def canary_client(self, session: aiohttp.ClientSession, pod: str) -> CanaryClient:
        """Return what sends requests to the canary, and their traces with them."""
        return _TracedCanaryClient(session, pod, self._tracer)

    def decision_log(self, writer: SegmentWriter, mode: Mode, metrics: LogMetrics) -> DecisionLog:
        """Return the decision log."""
        return _TracedDecisionLog(writer, mode, metrics, self._tracer)

    async def close(self) -> None:
        """Send the last spans."""
        await self._made.close()


class _TracedSingleScorer(SingleScorer):
    def __init__(self, context: ScoringContext, tracer: Tracer) -> None:
        super().__init__(replace(context, slot=_TracedSlot(context.slot, tracer)))

    async def score(self, body: bytes, origin: Origin, reasons: int = 0, *, warnings: bool = True) -> Score:
        request = trace.get_current_span()
        request.set_attributes({spans.ENDPOINT: origin.endpoint, spans.ROLE: origin.role, spans.ROWS: 1})
        score = await super().score(body, origin, reasons, warnings=warnings)
        if isinstance(score.decision_id, str):
            request.set_attribute(spans.DECISION, score.decision_id)
        return score


class _TracedSlot(ModelSlot):
    """Another slot's model, with spans around what reads and scores single applications."""

    def __init__(self, plain: ModelSlot, tracer: Tracer) -> None:
        super().__init__()
        self._plain, self._tracer = plain, tracer

    def require(self) -> Model:
        plain = self._plain.require()
        if self.model is None or self.model.identity is not plain.identity:
            tracer = self._tracer
            self.model = replace(
                plain, decoder=_TracedDecoder(plain.decoder, tracer), score=_TracedBatcher(plain.score, tracer),
                explain=_TracedBatcher(plain.explain, tracer),
            )  # fmt: skip
        trace.get_current_span().set_attributes(_named(plain))
        return self.model


class _TracedDecoder(ApplicationDecoder):
    """Reads as another decoder does, whose tables it shares."""

    def __init__(self, plain: ApplicationDecoder, tracer: Tracer) -> None:
        self.__dict__.update(vars(plain))
        self._tracer = tracer

    def read(self, body: bytes) -> tuple[FloatRows, CodeRows, bool, str | None]:
        with child(self._tracer, "decode"):
            return super().read(body)


class _TracedBatcher(MicroBatcher[Answer]):
    """Hands applications to another batcher, so that they are scored with those of requests without spans."""

    def __init__(self, plain: MicroBatcher[Answer], tracer: Tracer) -> None:
        self._plain, self._tracer = plain, tracer

    async def submit(self, numeric: FloatRows, codes: CodeRows) -> Answer:
        with child(self._tracer, "score") as span:
            together = self._plain.gathering
            answer = await self._plain.submit(numeric, codes)
            span.set_attribute(spans.BATCH_SIZE, len(together))
            return answer


class _TracedBatchScorer(BatchScorer):
    def __init__(self, context: ScoringContext, tracer: Tracer) -> None:
        super().__init__(context)
        self._tracer = tracer

    async def score(
        self, origin: Origin, read: Callable[[Model], Rows], first_row: int = 0, *, all_or_none: bool = False
    ) -> ScoredRows:
        request = trace.get_current_span()
        if not request.is_recording():
            return await super().score(origin, read, first_row, all_or_none=all_or_none)

        def traced_read(model: Model) -> Rows:
            with child(self._tracer, "decode"):
                rows = read(model)
            # Of all parts of the request until now.
            request.set_attributes({
                spans.ENDPOINT: origin.endpoint, spans.ROLE: origin.role, spans.ROWS: first_row + len(rows),
                **_named(model),
            })  # fmt: skip
            return rows

        return await super().score(origin, traced_read, first_row, all_or_none=all_or_none)

    async def run(self, work: Callable[[], Result]) -> Result:
        # The thread knows the request only if it is given its context.
        return await super().run(partial(copy_context().run, work) if trace.get_current_span().is_recording() else work)

    def _score(self, model: Model, rows: Rows, origin: Origin, first_row: int) -> tuple[ScoredRows, DecidedRows | None]:
        with child(self._tracer, "score") as span:
            span.set_attributes({spans.BATCH_SIZE: len(rows), spans.ROWS_REFUSED: len(rows.problems)})
            return super()._score(model, rows, origin, first_row)


class _TracedCanaryClient(CanaryClient):
    def __init__(self, session: aiohttp.ClientSession, pod: str, tracer: Tracer) -> None:
        super().__init__(session, pod)
        self._tracer = tracer

    async def score(
        self, canary: CanaryRoute, origin: Origin, body: bytes, query: str = "", *, shadow: bool = False
    ) -> CanaryAnswer:
        with child(self._tracer, "canary", {HTTP_REQUEST_METHOD: "POST"}, SpanKind.CLIENT) as span:
            answer = await super().score(canary, origin, body, query, shadow=shadow)
            if span.is_recording():
                self._describe(span, canary, answer)
            return answer

    @staticmethod
    def _describe(span: trace.Span, canary: CanaryRoute, answer: CanaryAnswer) -> None:
        # A shadow copy is sent after the answer, so it is never part of the request's trace.
        span.set_attributes({
            spans.CANARY_VERSION: canary.version, spans.CANARY_OUTCOME: answer.outcome,
            spans.CANARY_FALLBACK: answer.score is None,
        })  # fmt: skip
        if answer.outcome not in {"ok", "refused"}:
            spans.fail(span, answer.outcome)

    def _headers(self, origin: Origin, *, shadow: bool) -> dict[str, str]:
        headers = super()._headers(origin, shadow=shadow)
        _inject(headers)
        return headers


class _TracedDecisionLog(DecisionLog):
    def __init__(self, writer: SegmentWriter, mode: Mode, metrics: LogMetrics, tracer: Tracer) -> None:
        super().__init__(writer, mode, metrics)
        self._tracer = tracer

    async def durable(self) -> None:
        with child(self._tracer, "decision log"):
            await super().durable()


class _TracedAuditLog(AuditLog):
    def write(self, event: str, **fields: object) -> None:
        super().write(event, **fields, **spans.ids())


def _named(model: Model) -> dict[str, str]:
    return {spans.MODEL_NAME: model.identity.name, spans.MODEL_VERSION: model.identity.version}


def add_ids(record: logging.LogRecord) -> bool:
    """Let a line of the log that is written during a request name its trace."""
    # A record passes the filter of each handler.
    if (known := spans.ids()) and not known.keys() & vars(record).keys():
        vars(record).update(known)
        record.msg = f"{record.msg} {' '.join(f'{name}={value}' for name, value in known.items())}"
    return True
