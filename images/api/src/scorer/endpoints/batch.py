"""POST /v1/score/batch: up to 10,000 applications; the answer has the form of the request."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from scorer.answers import BatchByColumn, BatchByRow, RefusedRow, RowProblem, RowScore, RowWarnings
from scorer.applications.arrow import OutputColumn, TableCodec, TableSchema
from scorer.applications.csv_tables import csv_columns
from scorer.applications.json_bodies import read_json
from scorer.applications.rows import MAX_ROWS
from scorer.applications.tables import Rows
from scorer.contract import Contract
from scorer.decision_log.origin import Origin
from scorer.endpoints.ndjson import StreamLimits, stream_answers
from scorer.endpoints.openapi import BINARY, Document, json_content, problems, reference
from scorer.endpoints.query import describe_query, read_query
from scorer.http.asgi import (
    Receive,
    RequestIds,
    Scope,
    Send,
    check_media_type,
    media_type,
    read_body,
    request_id_header,
    send_answer,
)
from scorer.http.media_types import CSV, JSON, NDJSON, TABLES
from scorer.model.bundle import Model, ScoredRows
from scorer.problems import Problem
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import BatchScoring

PATH = "/v1/score/batch"
_TYPES = (JSON, NDJSON, CSV, *TABLES)


class BatchEndpoint:
    """An ASGI application with one endpoint."""

    def __init__(self, context: ScoringContext, batches: BatchScoring, limits: StreamLimits) -> None:
        """Take what scores batches, and the limits of a line and of a whole body."""
        self._context, self._batches, self._limits = context, batches, limits
        self._ids, self._tables = RequestIds(), TableCodec()
        # Not the batches' thread: a corrupt table of 2 kB can cost a new sandbox process, which takes half a second.
        self._table_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tables")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Problem: If the body as a whole is refused.
            ClientGoneError: If the client disconnected.
        """
        headers = dict(scope["headers"])
        given = media_type(headers)
        check_media_type(given, _TYPES)
        warn, request_id = read_query(scope["query_string"]).warnings, self._ids.of(headers)
        if given == NDJSON:
            self._context.slot.require()
            answer = partial(self._answer_lines, request_id=request_id, warn=warn)
            await stream_answers(receive, send, answer, self._limits, [request_id_header(request_id)])
            return
        body = await read_body(receive, self._limits.body)
        origin = Origin(request_id, "batch", time.perf_counter())
        by_row = body[:64].lstrip(b" \t\r\n").startswith(b"[")
        if given in TABLES:
            encoded = await self._answer_table(body, given, origin, warn=warn)
        elif given == CSV:
            rows = await self._batches.score(
                origin, lambda model: model.tables.from_columns(csv_columns(body, model.contract))
            )
            encoded = await self._batches.run(lambda: _encode_csv(rows, warn=warn))
        else:
            rows = await self._batches.score(origin, lambda model: self._read(model, body, by_row=by_row))
            encoded = await self._batches.run(lambda: self._encode(rows, request_id, by_row=by_row, warn=warn))
        content_type = (b"content-type", given.encode())
        await send_answer(send, encoded, content_type=content_type, headers=[request_id_header(request_id)])

    async def _answer_lines(
        self, lines: list[bytes], first_row: int, *, request_id: str, warn: bool
    ) -> list[RowScore | RefusedRow]:
        origin = Origin(request_id, "ndjson", time.perf_counter())
        rows = await self._batches.score(origin, lambda model: model.tables.from_lines(lines), first_row)
        return _row_answers(rows, first_row, warn=warn)

    async def _answer_table(self, body: bytes, given: str, origin: Origin, *, warn: bool) -> bytes:
        contract, loop = self._context.slot.require().contract, asyncio.get_running_loop()
        schema = TableSchema([feature.name for feature in contract.numeric], contract.ignored)
        columns = await loop.run_in_executor(self._table_thread, self._tables.read, body, given, schema)
        rows = await self._batches.score(origin, lambda model: model.tables.from_columns(columns))
        model = rows.model.reference
        metadata = {"model_name": model.name, "model_version": model.version}
        table = await self._batches.run(lambda: _table_columns(rows, warn=warn))
        return await loop.run_in_executor(self._table_thread, self._tables.write, table, given, metadata)

    def _read(self, model: Model, body: bytes, *, by_row: bool) -> Rows:
        contract = model.contract
        if by_row:
            return model.tables.from_json_records(body)
        columns = read_json(body)
        if not isinstance(columns, dict) or not all(
            isinstance(values, list) for name, values in columns.items() if name not in contract.ignored
        ):
            raise Problem(422, "the body must be an array of applications, or an object with one array per field")
        return model.tables.from_columns(columns)

    def _encode(self, rows: ScoredRows, request_id: str, *, by_row: bool, warn: bool) -> bytes:
        served_by, model = self._context.served_by, rows.model.reference
        if by_row:
            return msgspec.json.encode(BatchByRow(request_id, served_by, model, _row_answers(rows, warn=warn)))
        errors = [RefusedRow(row, RowProblem.of(problem)) for row, problem in rows.problems.items()]
        said = [RowWarnings(*entry) for entry in rows.unusual.warnings().items()] if warn else []
        answer = BatchByColumn(request_id, served_by, model, **_columns(rows), errors=errors, warnings=said or UNSET)
        return msgspec.json.encode(answer)


def _row_answers(rows: ScoredRows, start: int = 0, *, warn: bool) -> list[RowScore | RefusedRow]:
    """Return an answer for each row, numbered from `start`."""
    scores = list(zip(*_values(rows).values(), strict=True))
    answers: list[RowScore | RefusedRow] = [RowScore(start + row, *score) for row, score in enumerate(scores)]
    for row, warnings in rows.unusual.warnings().items() if warn else ():
        answers[row] = msgspec.structs.replace(answers[row], warnings=warnings)
    for row, problem in rows.problems.items():
        answers[row] = RefusedRow(start + row, RowProblem.of(problem))
    return answers


def _values(rows: ScoredRows) -> dict[str, list[Any]]:
    """Return the rows' values, also those of refused rows, which mean nothing; in the order of RowScore's fields."""
    columns: dict[str, list[Any]] = {
        "probability_of_default": rows.probabilities.tolist(),
        "score_points": rows.points.tolist(),
        "decision": rows.decisions,
    }
    return columns if rows.grades is None else {**columns, "grade": list(rows.grades)}


def _columns(rows: ScoredRows) -> dict[str, list[Any]]:
    """Return the rows' values, None for refused rows."""
    columns = _values(rows)
    for row in rows.problems:
        for values in columns.values():
            values[row] = None
    return columns


def _encode_csv(rows: ScoredRows, *, warn: bool) -> bytes:
    """Return the results as CSV with a header line; the values of a refused row are empty."""
    text = io.StringIO()
    columns = {**_columns(rows), **_text_columns(rows, warn=warn)}
    csv.writer(text).writerows([columns, *zip(*columns.values(), strict=True)])
    return text.getvalue().encode()


def _table_columns(rows: ScoredRows, *, warn: bool) -> dict[str, OutputColumn]:
    columns = _columns(rows)
    kinds = {"probability_of_default": "float32", "score_points": "int32"}
    table = {name: OutputColumn(kinds.get(name, "string"), values) for name, values in columns.items()}
    texts = _text_columns(rows, warn=warn)
    return table | {name: OutputColumn("string", values) for name, values in texts.items()}


def _text_columns(rows: ScoredRows, *, warn: bool) -> dict[str, list[str | None]]:
    """Return problems, and warnings if there are any, as JSON by row, for answers whose rows hold text only."""
    columns = {"problem": _as_json({row: RowProblem.of(problem) for row, problem in rows.problems.items()}, len(rows))}
    if warn and (warnings := rows.unusual.warnings()):
        columns["warnings"] = _as_json(warnings, len(rows))
    return columns


def _as_json(documents: Mapping[int, object], count: int) -> list[str | None]:
    texts: list[str | None] = [None] * count
    for row, document in documents.items():
        texts[row] = msgspec.json.encode(document).decode()
    return texts


def operation(contract: Contract | None) -> Document:
    """Return the endpoint's description for OpenAPI, with the reference applicant as the example."""
    rows = {"type": "array", "maxItems": MAX_ROWS, "items": reference("Application")}
    example = contract and [contract.reference_applicant] * 2
    tables = dict.fromkeys(TABLES, BINARY)
    return {
        "tags": ["scoring"],
        "summary": f"Score up to {MAX_ROWS} applications",
        "description": "The answer has the form of the request. An invalid row does not keep the others from being "
        "scored.",
        "operationId": "score_batch",
        "parameters": describe_query(contract, reasons=False),
        "requestBody": {
            "required": True,
            "content": {
                **json_content({"anyOf": [rows, reference("Columns")]}, example),
                NDJSON: {"schema": {"type": "string", "description": "One application per line"}},
                CSV: {"schema": {"type": "string", "description": "With a header line; commas, semicolons or tabs"}},
                **tables,
            },
        },
        "responses": {
            "200": {
                "description": "A result for each row, in the order of the request",
                "content": {
                    **json_content({"anyOf": [reference("BatchByRow"), reference("BatchByColumn")]}),
                    NDJSON: {"schema": {"type": "string", "description": "One RowScore or RefusedRow per line"}},
                    CSV: {"schema": {"type": "string", "description": "A header line, then a line for each row"}},
                    **tables,
                },
            },
            **problems("400", "413", "415", "422", "503"),
        },
    }
