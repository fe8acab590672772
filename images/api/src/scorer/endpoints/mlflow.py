"""MLflow's scoring protocol, which SageMaker's clients speak too: /invocations, /ping, /version."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from scorer.answers import Predictions
from scorer.applications.csv_tables import csv_columns
from scorer.applications.json_bodies import read_json_with_nan
from scorer.applications.rows import Column
from scorer.applications.tables import Rows, refuse_duplicate_columns
from scorer.contract import Contract
from scorer.decision_log.origin import Origin
from scorer.endpoints.openapi import Document, json_content, problems, reference
from scorer.http.asgi import RequestIds, check_media_type, media_type, read_body, request_id_header
from scorer.http.media_types import CSV, JSON
from scorer.model.bundle import Model
from scorer.problems import FieldProblem, Problem
from scorer.scoring.context import ScoringContext
from scorer.scoring.interface import BatchScoring

# The MLflow release whose protocol this is; clients read it to know what they may send.
PROTOCOL_VERSION = "3.17.2"
OPEN_PATHS = frozenset({"/ping"})
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_OPERATION: Document = {
    "requestBody": {
        "required": True,
        "content": {
            **json_content({
                "type": "object",
                "description": "Exactly one of the first four; columns that are not features are ignored",
                "properties": {
                    "dataframe_split": {
                        "type": "object",
                        "required": ["columns", "data"],
                        "properties": {
                            "columns": {"type": "array", "items": {"type": "string"}},
                            "data": {"type": "array", "items": {"type": "array"}},
                        },
                    },
                    "dataframe_records": {"type": "array", "items": {"type": "object"}},
                    "instances": {"type": ["array", "object"]},
                    "inputs": {"type": ["array", "object"]},
                    "params": {"type": "object", "description": "Accepted and ignored"},
                },
            }),
            CSV: {"schema": {"type": "string", "description": "With a header line; commas, semicolons or tabs"}},
        },
    },
    "responses": {
        "200": {
            "description": "Probabilities of default, in the order of the rows",
            "content": json_content(reference("Predictions")),
        },
        **problems("400", "413", "415", "422", "503"),
    },
}  # fmt: skip


def add_mlflow_protocol(app: FastAPI, context: ScoringContext, batches: BatchScoring, limit: int) -> None:
    """Add the endpoints; `limit` is that of a body, in bytes."""
    tags: list[str | Any] = ["MLflow scoring protocol"]
    ids = RequestIds()

    @app.post("/invocations", tags=tags, summary="Score rows as MLflow's scoring server does", openapi_extra=_OPERATION)
    async def invocations(request: Request) -> Response:
        headers = dict(request.scope["headers"])
        given = media_type(headers)
        check_media_type(given, (JSON, CSV))
        body = await read_body(request.receive, limit)
        origin = Origin(ids.of(headers), "invocations", time.perf_counter())
        rows = await batches.score(origin, lambda model: _read(model, body, given), all_or_none=True)
        predictions = msgspec.json.encode(Predictions(rows.probabilities.tolist()))
        return Response(predictions, headers=dict([request_id_header(origin.request_id)]), media_type=JSON)

    @app.get("/ping", tags=tags, summary="Whether a model is loaded", response_class=PlainTextResponse,
             responses=problems("503"))  # fmt: skip
    async def ping() -> str:
        context.slot.require()
        return "\n"

    @app.get("/version", tags=tags, summary="The MLflow release whose protocol it is", response_class=PlainTextResponse)
    async def version() -> str:
        return PROTOCOL_VERSION


def example(contract: Contract) -> Document:
    """Return a request with the contract's reference applicant."""
    applicant = contract.reference_applicant
    return {"dataframe_split": {"columns": list(applicant), "data": [list(applicant.values())]}}


def _read(model: Model, body: bytes, given: str) -> Rows:
    if given == CSV:
        return model.tables.from_columns(csv_columns(body, model.contract), lenient=True)
    document = read_json_with_nan(body)
    forms = [form for form in FORMS if isinstance(document, dict) and form in document]
    if len(forms) != 1:
        raise Problem(422, f"the body must be an object with exactly one of {', '.join(FORMS)}")
    if not isinstance(document.get("params"), dict | None):
        raise Problem(422, "params must be an object", (FieldProblem("params", "is not an object", "an object"),))
    (form,) = forms
    if form == "dataframe_split":
        return model.tables.from_columns(_split_columns(document[form]), lenient=True)
    return _from_values(model, form, document[form])


def _from_values(model: Model, form: str, values: Any) -> Rows:  # noqa: ANN401 - any JSON value
    if isinstance(values, dict) and form != "dataframe_records":
        return model.tables.from_columns(_named_columns(form, values, model.contract.ignored), lenient=True)
    if isinstance(values, list) and all(isinstance(row, dict) for row in values):
        return model.tables.from_records(values, lenient=True)
    if isinstance(values, list) and form != "dataframe_records":
        names = [feature.name for feature in model.contract.features]
        return model.tables.from_columns(_transpose(names, values), lenient=True)
    raise Problem(422, f"{form} must be an array of objects")


def _named_columns(form: str, values: dict[str, Any], ignored: Collection[str]) -> dict[str, Column]:
    columns = {name: column for name, column in values.items() if name not in ignored}
    if not all(isinstance(column, list) for column in columns.values()):
        raise Problem(422, f"{form} must have one array per field")
    return {name: _flatten(column) for name, column in columns.items()}


def _split_columns(split: Any) -> dict[str, Column]:  # noqa: ANN401 - any JSON value
    names, data = (split.get("columns"), split.get("data")) if isinstance(split, dict) else (None, None)
    if not isinstance(names, list) or not isinstance(data, list) or not all(isinstance(name, str) for name in names):
        raise Problem(
            422, "dataframe_split must be an object with `columns`, an array of names, and `data`, one of rows"
        )
    return _transpose(names, data)


def _transpose(names: list[str], rows: list[Any]) -> dict[str, Column]:
    refuse_duplicate_columns(names)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise Problem(422, f"row {index} is not an array of {len(names)} values")
    return {name: [row[column] for row in rows] for column, name in enumerate(names)}


def _flatten(column: list[Any]) -> list[Any]:
    """Return a column of shape [N, 1] as [N]."""
    if column and all(isinstance(value, list) and len(value) == 1 for value in column):
        return [value[0] for value in column]
    return column
