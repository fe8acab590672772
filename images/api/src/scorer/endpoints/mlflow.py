"""MLflow's scoring protocol, which SageMaker's clients speak too: /invocations, /ping, /version."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from scorer.applications.decoder import read_json
from scorer.applications.tables import Column, Rows, refuse_repeated
from scorer.endpoints.openapi import INVOCATIONS, problems
from scorer.http.asgi import JSON, check_media_type, media_type, read_body
from scorer.model.bundle import Model
from scorer.problems import FieldProblem, Problem
from scorer.scoring.batch import Batch, BatchScorer
from scorer.scoring.single import model_of

# The release whose protocol this is; clients ask for it to learn what they may send.
PROTOCOL_VERSION = "3.17.2"
CSV = "text/csv"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def add_mlflow_protocol(app: FastAPI, batches: BatchScorer, limit: int) -> None:
    """Add the endpoints; `limit` is a body's, in bytes."""
    tags: list[str | Any] = ["MLflow scoring protocol"]

    @app.post(
        "/invocations", tags=tags, summary="Score rows as MLflow's scoring server does", openapi_extra=INVOCATIONS
    )
    async def invocations(request: Request) -> Response:
        given = media_type(dict(request.scope["headers"]))
        check_media_type(given, (JSON, CSV))
        body = await read_body(request.receive, limit)
        batch = await batches.score("invocations", lambda model: _read(model, body, given))
        refuse_any(batch)
        return Response(msgspec.json.encode({"predictions": batch.probabilities.tolist()}), media_type=JSON)

    @app.get("/ping", tags=tags, summary="Whether a model is loaded", response_class=PlainTextResponse,
             responses=problems("503"))  # fmt: skip
    async def ping() -> str:
        model_of(batches.scorer.slot)
        return "\n"

    @app.get("/version", tags=tags, summary="The MLflow release whose protocol it is", response_class=PlainTextResponse)
    async def version() -> str:
        return PROTOCOL_VERSION


def refuse_any(batch: Batch) -> None:
    """Refuse a batch with any wrong row, where the protocol knows no errors by row.

    Raises:
        Problem: 422 that names the rows and their fields.
    """
    if batch.problems:
        errors = tuple(
            FieldProblem(f"row {row}: {error.field}", error.problem, error.allowed)
            for row, problem in list(batch.problems.items())[:20]
            for error in problem.errors
        )
        raise Problem(422, f"{len(batch.problems)} of {len(batch)} rows are wrong", errors)


def _read(model: Model, body: bytes, given: str) -> Rows:
    if given == CSV:
        return model.tables.from_columns(_csv_columns(model, body), lenient=True)
    document = read_json(body)
    forms = [form for form in FORMS if isinstance(document, dict) and form in document]
    if len(forms) != 1:
        raise Problem(422, f"the body must be an object with exactly one of {', '.join(FORMS)}")
    if not isinstance(document.get("params"), dict | None):
        raise Problem(422, "params must be an object", (FieldProblem("params", "is no object", "an object"),))
    (form,) = forms
    if form == "dataframe_split":
        return model.tables.from_columns(_split_columns(document[form]), lenient=True)
    return _from_values(model, form, document[form])


def _from_values(model: Model, form: str, values: Any) -> Rows:  # noqa: ANN401 - whatever a client sent
    if isinstance(values, dict) and form != "dataframe_records":
        if not all(isinstance(column, list) for column in values.values()):
            raise Problem(422, f"{form} must hold one array per field")
        return model.tables.from_columns({name: _flat(column) for name, column in values.items()}, lenient=True)
    if isinstance(values, list) and all(isinstance(row, dict) for row in values):
        return model.tables.from_records(values, lenient=True)
    if isinstance(values, list) and form != "dataframe_records":
        names = [feature.name for feature in model.contract.features]
        return model.tables.from_columns(_transposed(names, values), lenient=True)
    raise Problem(422, f"{form} must be an array of objects")


def _split_columns(split: Any) -> dict[str, Column]:  # noqa: ANN401 - whatever a client sent
    names, data = (split.get("columns"), split.get("data")) if isinstance(split, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(data, list) or not all(isinstance(name, str) for name in names):
        raise Problem(422, "dataframe_split must be an object with columns, an array of names, and data, one of rows")
    return _transposed(names, data)


def _transposed(names: list[str], rows: list[Any]) -> dict[str, Column]:
    refuse_repeated(names)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise Problem(422, f"row {index} is no array of {len(names)} values")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _flat(column: list[Any]) -> list[Any]:
    """Return a tensor's column of shape [N, 1] as [N]."""
    if column and all(isinstance(value, list) and len(value) == 1 for value in column):
        return [value[0] for value in column]
    return column


def _csv_columns(model: Model, body: bytes) -> dict[str, Column]:
    try:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Problem(400, f"the body is no CSV in UTF-8: {error}") from error
    columns = _transposed(rows[0], rows[1:]) if rows else {}
    for feature in model.contract.numeric:
        if feature.name in columns:
            columns[feature.name] = [_number(text) for text in columns[feature.name]]
    return columns


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
