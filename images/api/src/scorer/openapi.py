"""The OpenAPI document of what FastAPI does not see: endpoints on plain ASGI, and the loaded model's fields."""

from __future__ import annotations

from typing import Any

from scorer.application import allowed_values
from scorer.asgi import JSON, PROBLEM_JSON
from scorer.contract import CategoricalFeature, Contract, Feature
from scorer.scoring import MOST_REASONS

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
    document["paths"] = {"/v1/score": {"post": _SCORE}, **document["paths"]}
    return document


def problems(*statuses: str) -> Document:
    """Return the described answers of an endpoint that can refuse for these statuses."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _PROBLEMS[status], "content": content} for status in statuses}


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
_SCHEMAS: Document = {
    "Problem": {
        **_object(
            {
                "type": _STRING,
                "title": _STRING,
                "status": {"type": "integer"},
                "detail": _STRING,
                "errors": {
                    "type": "array",
                    "items": _object({"field": _STRING, "problem": _STRING, "allowed": _STRING}),
                },
            },
            optional=("errors",),
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
