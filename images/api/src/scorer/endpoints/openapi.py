"""The OpenAPI document: FastAPI's own, plus the endpoints on plain ASGI, the answers' types and the model's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from scorer.answers import BatchByColumn, BatchByRow, Predictions, RefusedRow, RowScore, Score
from scorer.applications.features import allowed_values
from scorer.applications.rows import MAX_ROWS
from scorer.contract import APPLICANT_ID, Contract, Feature, NumericFeature
from scorer.endpoints.tensors import InferRequest, InferResponse
from scorer.http.content_coding import ACCEPTED
from scorer.http.media_types import JSON, PROBLEM_JSON
from scorer.problems import ProblemDocument

Document = dict[str, Any]
BINARY: Document = {"schema": {"type": "string", "format": "binary"}}
_TYPES = (
    ProblemDocument, Score, BatchByRow, BatchByColumn, RowScore, RefusedRow, Predictions, InferRequest, InferResponse,
)  # fmt: skip
_SCHEMAS = "#/components/schemas/"
_IGNORED = "Accepted and ignored"
_ABOUT = (
    f"Bodies of requests may have a Content-Encoding: {ACCEPTED}. Limits count their bytes after inflation. "
    "Text must be UTF-8. Wherever there is a GET, HEAD is answered too."
)
_PROBLEMS = {
    "400": "The body is not valid JSON, or not valid in its Content-Encoding",
    "404": "There is no such model or version",
    "413": "The body is too large",
    "415": "The body has a media type, charset or Content-Encoding that the endpoint does not read; the header Accept "
    "or Accept-Encoding lists those that it does",
    "422": "The request is invalid: each invalid field is named with what is allowed",
    "503": "No model is loaded yet, the service is overloaded, or a decision that must be logged cannot be (`code` is "
    "decision-not-logged); Retry-After says when to try again",
}


def describe(
    document: Document,
    contract: Contract | None,
    operations: Mapping[str, Document],
    examples: Mapping[str, Document],
    root_path: str = "",
) -> Document:
    """Complete FastAPI's document.

    Args:
        document: FastAPI's document; it is changed.
        contract: The loaded model's, if there is one.
        operations: POST operations that FastAPI does not know, by path.
        examples: Request bodies by the end of their path; only with a model.
        root_path: The prefix of all paths.
    """
    # The scheme and host are those from which the document was read.
    document["servers"] = [{"url": root_path or "/"}]
    document["info"]["description"] = _ABOUT
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_components())
    schemas["Application"] = _application(contract)
    schemas["Columns"] = _columns(contract)
    if contract and contract.grades:
        for scored in (Score, RowScore):
            schemas[scored.__name__]["properties"]["grade"]["enum"] = [grade.name for grade in contract.grades]
    paths = {path: {"post": operation} for path, operation in operations.items()}
    document["paths"] = {**paths, **document["paths"]}
    for end, example in examples.items():
        for operation in (
            post for path, item in document["paths"].items() if path.endswith(end) for post in item.values()
        ):
            operation["requestBody"]["content"][JSON]["example"] = example
    return document


def reference(name: str) -> Document:
    """Return a reference to a schema of the document."""
    return {"$ref": f"{_SCHEMAS}{name}"}


def json_content(schema: Document, example: object = None) -> Document:
    """Return the content of a JSON body."""
    return {JSON: {"schema": schema, **({} if example is None else {"example": example})}}


def problems(*statuses: str) -> dict[int | str, Document]:
    """Return the descriptions of an endpoint's error answers with these statuses."""
    content = {PROBLEM_JSON: {"schema": reference("Problem")}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def _components() -> Document:
    """Return the schemas of the types that are decoded and encoded."""
    _, components = msgspec.json.schema_components(_TYPES, ref_template=_SCHEMAS + "{name}")
    components["Problem"] = {**components.pop(ProblemDocument.__name__), "title": "Problem"}
    rows = {"anyOf": [reference(RowScore.__name__), reference(RefusedRow.__name__)]}
    components[BatchByRow.__name__]["properties"]["results"]["items"] = rows
    return components


def _application(contract: Contract | None) -> Document:
    if contract is None:
        return {"type": "object", "description": "Known once a model is loaded"}
    properties = {feature.name: _property(feature) for feature in contract.features}
    ignored = {name: {"description": _IGNORED} for name in contract.ignored}
    return {
        "type": "object",
        "required": _required(contract),
        "properties": {**properties, APPLICANT_ID: {"type": ["string", "null"]}, **ignored},
        "additionalProperties": False,
        "example": contract.reference_applicant,
    }


def _columns(contract: Contract | None) -> Document:
    names = [feature.name for feature in contract.features] if contract else []
    ignored = {name: {"description": _IGNORED} for name in contract.ignored} if contract else {}
    return {
        "type": "object",
        "description": "One array per field, all of the same length",
        "required": _required(contract) if contract else [],
        "properties": {**{name: {"type": "array", "maxItems": MAX_ROWS} for name in [*names, APPLICANT_ID]}, **ignored},
        "additionalProperties": False,
    }


def _required(contract: Contract) -> list[str]:
    return [feature.name for feature in contract.features if not feature.missing]


def _property(feature: Feature) -> Document:
    """Describe a feature: what it accepts, then what means missing."""
    missing = [*(feature.missing_values or ()), *([None] if feature.missing else [])]
    if isinstance(feature, NumericFeature):
        schema: Document = {"type": "number", "minimum": feature.minimum, "maximum": feature.maximum}
    elif feature.other:
        schema = {"type": "string", "minLength": 1}
    else:
        schema = {"enum": list(feature.categories)}
    accepted = {"anyOf": [schema, {"enum": missing}]} if missing else schema
    return {**accepted, "description": f"{feature.description}: {allowed_values(feature)}"}
