"""POST /v1/score/batch: up to 10,000 applications; the answer has the form of the question."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from scorer.applications.arrow import TYPES as ARROW_TYPES
from scorer.applications.arrow import TableCodec
from scorer.applications.decoder import read_json
from scorer.applications.tables import Rows
from scorer.endpoints.ndjson import NDJSON, answer_lines
from scorer.http.asgi import (
    JSON,
    Receive,
    RequestIds,
    Scope,
    Send,
    answer,
    check_media_type,
    media_type,
    read_body,
)
from scorer.model.bundle import Model
from scorer.problems import FieldProblem, Problem
from scorer.scoring.batch import Batch, BatchScorer
from scorer.scoring.single import ModelReference

TYPES = (JSON, NDJSON, *ARROW_TYPES)


class RowScore(msgspec.Struct, frozen=True):
    """A row that could be scored."""

    row: int
    probability_of_default: float
    score_points: int
    decision: str


class RowProblem(msgspec.Struct, frozen=True):
    """What is wrong with a row."""

    status: int
    detail: str
    errors: tuple[FieldProblem, ...]

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Return the part of a problem that speaks of its row."""
        return cls(problem.status, problem.detail, problem.errors)


class RefusedRow(msgspec.Struct, frozen=True):
    """A row that could not be scored."""

    row: int
    problem: RowProblem


class BatchEndpoint:
    """An ASGI application of one endpoint; what it raises is answered by the application that it is a part of."""

    def __init__(self, batches: BatchScorer, line_limit: int, limit: int) -> None:
        """Take the limits of a line of NDJSON and of a whole body, in bytes."""
        self._batches, self._line_limit, self._limit = batches, line_limit, limit
        self._ids, self._tables = RequestIds(), TableCodec()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Raises:
            Problem: when the body as a whole is wrong.
            ClientGoneError: when the client hung up.
        """
        headers = dict(scope["headers"])
        given = media_type(headers)
        check_media_type(given, TYPES)
        if given == NDJSON:
            await answer_lines(self._batches, receive, send, self._line_limit, self._limit, row_answers)
            return
        body = await read_body(receive, self._limit)
        head = {"request_id": self._ids.of(headers), "served_by": self._batches.scorer.served_by}
        by_row = body[:64].lstrip(b" \t\r\n").startswith(b"[")
        batch = await self._batches.score("batch", lambda model: self._read(model, body, given, by_row=by_row))
        encoded = await self._batches.run(lambda: self._write(batch, head, given, by_row=by_row))
        kind = given.encode() if given in ARROW_TYPES else JSON.encode()
        await answer(send, encoded, content_type=(b"content-type", kind))

    def _read(self, model: Model, body: bytes, given: str, *, by_row: bool) -> Rows:
        if given in ARROW_TYPES:
            numeric = [feature.name for feature in model.contract.numeric]
            return model.tables.from_columns(self._tables.read(body, given, numeric))
        if by_row:
            return model.tables.from_json_records(body)
        columns = read_json(body)
        if not isinstance(columns, dict) or not all(isinstance(values, list) for values in columns.values()):
            raise Problem(422, "the body must be an array of applications, or an object of one array per field")
        return model.tables.from_columns(columns)

    def _write(self, batch: Batch, head: dict[str, Any], given: str, *, by_row: bool) -> bytes:
        identity = batch.model.identity
        head |= {"model": ModelReference(identity.name, identity.version)}
        if given in ARROW_TYPES:
            named = {"model_name": identity.name, "model_version": identity.version}
            return self._tables.write(_arrow_columns(batch), given, named)
        if by_row:
            return msgspec.json.encode({**head, "results": row_answers(batch)})
        errors = [RefusedRow(row, RowProblem.of(problem)) for row, problem in batch.problems.items()]
        return msgspec.json.encode({**head, **_columns(batch), "errors": errors})


def row_answers(batch: Batch, start: int = 0) -> list[RowScore | RefusedRow]:
    """Return an answer for each row, counted from `start`."""
    scores = zip(batch.probabilities.tolist(), batch.points.tolist(), batch.decisions, strict=True)
    answers: list[RowScore | RefusedRow] = [RowScore(start + row, *score) for row, score in enumerate(scores)]
    for row, problem in batch.problems.items():
        answers[row] = RefusedRow(start + row, RowProblem.of(problem))
    return answers


def _columns(batch: Batch) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "probability_of_default": batch.probabilities.tolist(),
        "score_points": batch.points.tolist(),
        "decision": batch.decisions,
    }
    for row in batch.problems:
        for values in columns.values():
            values[row] = None
    return columns


def _arrow_columns(batch: Batch) -> dict[str, tuple[str, list[Any]]]:
    columns, errors = _columns(batch), [None] * len(batch)
    for row, problem in batch.problems.items():
        errors[row] = msgspec.json.encode(RowProblem.of(problem)).decode()  # type: ignore[call-overload]
    kinds = {"probability_of_default": "float32", "score_points": "int32", "decision": "string"}
    table = {name: (kind, columns[name]) for name, kind in kinds.items()}
    return {**table, "problem": ("string", errors)}
