"""The OpenAPI document of what FastAPI does not see: endpoints on plain ASGI, and the loaded model's fields."""

from __future__ import annotations

from typing import Any

from scorer.applications.arrow import TYPES as ARROW_TYPES
from scorer.applications.decoder import allowed_values
from scorer.applications.tables import MOST_ROWS
from scorer.contract import CategoricalFeature, Contract, Feature
from scorer.endpoints.ndjson import NDJSON
from scorer.http.asgi import JSON, PROBLEM_JSON
from scorer.scoring.single import MOST_REASONS

Document = dict[str, Any]
_PROBLEMS = {
    "400": "The body is not JSON",
    "404": "There is no such model or version",
    "413": "The body is too large",
    "415": "The body is of another type",
    "422": "Something in the request is wrong: each field is named with what is allowed",
    "503": "No model is loaded yet",
}


def describe(document: Document, contract: Contract | None) -> Document:
    """Return FastAPI's document with the scoring endpoints and the model's own fields."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_SCHEMAS)
    schemas["Application"] = _application(contract)
    schemas["Columns"] = _columns(contract)
    document["paths"] = {"/v1/score": {"post": _SCORE}, "/v1/score/batch": {"post": _BATCH}, **document["paths"]}
    if contract is not None:
        for path, example in _examples(contract).items():
            for operation in (o for at, item in document["paths"].items() if at.endswith(path) for o in item.values()):
                operation["requestBody"]["content"][JSON]["example"] = example
    return document


def problems(*statuses: str) -> dict[int | str, Document]:
    """Return the described answers of an endpoint that can refuse for these statuses."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


def _examples(contract: Contract) -> Document:
    """Return a request for each endpoint, by the end of its path, with the contract's reference applicant."""
    applicant = contract.reference_applicant
    tensors = [
        {"name": name, "datatype": "BYTES" if isinstance(value, str) else "FP64", "shape": [1], "data": [value]}
        for name, value in applicant.items()
    ]
    return {
        "/v1/score/batch": [applicant, applicant],
        "/invocations": {"dataframe_split": {"columns": list(applicant), "data": [list(applicant.values())]}},
        "/infer": {"inputs": tensors},
    }


def _application(contract: Contract | None) -> Document:
    if contract is None:
        return {"type": "object", "description": "Known once a model is loaded"}
    properties = {feature.name: _property(feature) for feature in contract.features}
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, "applicant_id": {"type": ["string", "null"]}},
        "additionalProperties": False,
        "example": contract.reference_applicant,
    }


def _columns(contract: Contract | None) -> Document:
    names = [feature.name for feature in contract.features] if contract else []
    return {
        "type": "object",
        "description": "One array per field, all of one length",
        "required": names,
        "properties": {name: {"type": "array", "maxItems": MOST_ROWS} for name in [*names, "applicant_id"]},
        "additionalProperties": False,
    }


def _property(feature: Feature) -> Document:
    about = f"{feature.description}: {allowed_values(feature)}"
    if isinstance(feature, CategoricalFeature):
        return {"enum": list(feature.categories), "description": about}
    return {"type": "number", "minimum": feature.minimum, "maximum": feature.maximum, "description": about}


def _object(properties: Document, *, optional: tuple[str, ...] = ()) -> Document:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


_STRING, _NUMBER = {"type": "string"}, {"type": "number"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_ERRORS = {"type": "array", "items": _object({"field": _STRING, "problem": _STRING, "allowed": _STRING})}
_ROW_PROBLEM = _object({"status": {"type": "integer"}, "detail": _STRING, "errors": _ERRORS})
_HEAD: Document = {
    "request_id": _STRING,
    "served_by": _STRING,
    "model": _object({"name": _STRING, "version": _STRING}),
}
_SCHEMAS: Document = {
    "Problem": {
        **_object(
            {
                "type": _STRING,
                "title": _STRING,
                "status": {"type": "integer"},
                "detail": _STRING,
                "error": {"type": "string", "description": "The detail again, under /v2 alone"},
                "errors": _ERRORS,
            },
            optional=("error", "errors"),
        ),
        "description": "RFC 9457",
    },
    "Reason": _object({
        "feature": _STRING,
        "code": {"type": "string", "description": "The same over all versions"},
        "reason": {"type": "string", "description": "For people"},
        "contribution": {"type": "number", "description": "In log-odds of default"},
        "points": {"type": "number", "description": "Score points that it cost, below zero"},
    }),
    "Audit": _object({
        "method": _STRING,
        "reference_probability_of_default": _PROBABILITY,
        "log_odds_difference": {"type": "number", "description": "To the reference applicant"},
        "contributions": {
            "type": "array",
            "description": "Of all features, protected ones included; they sum to log_odds_difference",
            "items": _object({"feature": _STRING, "contribution": _NUMBER, "protected": {"type": "boolean"}}),
        },
    }),
    "RowScore": _object({
        "row": {"type": "integer", "minimum": 0},
        "probability_of_default": _PROBABILITY,
        "score_points": {"type": "integer"},
        "decision": {"enum": ["approve", "decline"]},
    }),
    "RefusedRow": _object({"row": {"type": "integer", "minimum": 0}, "problem": _ROW_PROBLEM}),
    "BatchByRow": _object({
        **_HEAD,
        "results": {
            "type": "array",
            "items": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("RowScore", "RefusedRow")]},
        },
    }),
    "BatchByColumn": _object({
        **_HEAD,
        "probability_of_default": {"type": "array", "items": {"type": ["number", "null"]}},
        "score_points": {"type": "array", "items": {"type": ["integer", "null"]}},
        "decision": {"type": "array", "items": {"enum": ["approve", "decline", None]}},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/RefusedRow"}},
    }),
    "Score": {
        **_object(
            {
                "request_id": _STRING,
                "probability_of_default": _PROBABILITY,
                "score_points": {"type": "integer"},
                "decision": {"enum": ["approve", "decline"]},
                "model": _object({"name": _STRING, "version": _STRING}),
                "served_by": _STRING,
                "reasons": {"type": "array", "items": {"$ref": "#/components/schemas/Reason"}},
                "audit": {"$ref": "#/components/schemas/Audit"},
            },
            optional=("reasons", "audit"),
        ),
        "example": {
            "request_id": "6f1f7d0c6c0b4c5f0000000000000001",
            "probability_of_default": 0.27,
            "score_points": 516,
            "decision": "decline",
            "model": {"name": "credit-risk", "version": "1"},
            "served_by": "scoring-0",
        },
    },
}  # fmt: skip

_SCORE: Document = {
    "tags": ["scoring"],
    "summary": "Score one loan application",
    "operationId": "score",
    "parameters": [
        {
            "name": "reasons",
            "in": "query",
            "description": "Give at most so many principal reasons, most harmful first",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST_REASONS},
        },
        {
            "name": "X-Request-Id",
            "in": "header",
            "description": "Comes back as request_id; without it the service makes one",
            "schema": {"type": "string", "maxLength": 128},
        },
    ],
    "requestBody": {"required": True, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Application"}}}},
    "responses": {
        "200": {
            "description": "The probability of default, its score points, the decision and the reasons",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Score"}}},
        },
        **problems("400", "413", "415", "422", "503"),
    },
}

_ROWS = {"type": "array", "maxItems": MOST_ROWS, "items": {"$ref": "#/components/schemas/Application"}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BATCH: Document = {
    "tags": ["scoring"],
    "summary": f"Score up to {MOST_ROWS} applications",
    "description": "The answer has the form of the request. A wrong row does not keep the others from being scored.",
    "operationId": "score_batch",
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"anyOf": [_ROWS, {"$ref": "#/components/schemas/Columns"}]}},
            NDJSON: {"schema": {"type": "string", "description": "An application on each line"}},
            **dict.fromkeys(ARROW_TYPES, _BINARY),
        },
    },
    "responses": {
        "200": {
            "description": "A result for each row, in the order of the request",
            "content": {
                JSON: {
                    "schema": {
                        "anyOf": [
                            {"$ref": "#/components/schemas/BatchByRow"},
                            {"$ref": "#/components/schemas/BatchByColumn"},
                        ]
                    }
                },
                NDJSON: {"schema": {"type": "string", "description": "A RowScore or RefusedRow on each line"}},
                **dict.fromkeys(ARROW_TYPES, _BINARY),
            },
        },
        **problems("400", "413", "415", "422", "503"),
    },
}

INVOCATIONS: Document = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "description": "Exactly one of the first four; columns that are no features are ignored",
                    "properties": {
                        "dataframe_split": _object(
                            {
                                "columns": {"type": "array", "items": _STRING},
                                "data": {"type": "array", "items": {"type": "array"}},
                            }
                        ),
                        "dataframe_records": {"type": "array", "items": {"type": "object"}},
                        "instances": {"type": ["array", "object"]},
                        "inputs": {"type": ["array", "object"]},
                        "params": {"type": "object", "description": "Accepted, without effect"},
                    },
                }
            },
            "text/csv": {"schema": {"type": "string", "description": "With a header"}},
        },
    },
    "responses": {
        "200": {
            "description": "Probabilities of default, in the order of the rows",
            "content": {JSON: {"schema": _object({"predictions": {"type": "array", "items": _PROBABILITY}})}},
        },
        **problems("400", "413", "415", "422", "503"),
    },
}

_TENSOR = _object(
    {
        "name": _STRING,
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "description": "[N] or [N, 1]"},
        "datatype": _STRING,
        "parameters": {"type": "object"},
        "data": {"type": "array"},
    },
    optional=("parameters", "data"),
)
INFER: Document = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": _object(
                    {
                        "id": _STRING,
                        "parameters": {"type": "object"},
                        "inputs": {"type": "array", "items": _TENSOR, "description": "One per feature"},
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                    optional=("id", "parameters", "outputs"),
                )
            },
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary", "description": "The JSON, then binary tensors"}
            },
        },
    },
    "responses": {
        "200": {
            "description": "Tensors of the rows' results",
            "content": {
                JSON: {
                    "schema": _object(
                        {
                            "model_name": _STRING,
                            "model_version": _STRING,
                            "id": _STRING,
                            "outputs": {"type": "array", "items": _TENSOR},
                        },
                        optional=("id",),
                    )
                },
                "application/octet-stream": _BINARY,
            },
        },
        **problems("400", "404", "413", "422", "503"),
    },
}
