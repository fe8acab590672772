"""Print the CustomResourceDefinition, rendered from the models: `python -m promoter.api.crd`."""

from __future__ import annotations

import json
from typing import Any

import yaml

from promoter.api.resource import GROUP, KIND, PLURAL, VERSION, StatusPart
from promoter.api.rules import RULES, TARGET_IS_IMMUTABLE
from promoter.api.spec import Spec
from promoter.api.status import RouteState, State

Schema = dict[str, Any]
# Name, type, path and priority; those with priority 1 are shown by `-o wide` alone.
Column = tuple[str, str, str, int]
_KEPT = {
    "type", "description", "default", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength",
    "minItems", "maxItems", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
}  # fmt: skip
# The message goes last: it may be longer than its header.
COLUMNS: tuple[Column, ...] = (
    ("Phase", "string", ".status.phase", 0),
    ("Stable", "string", ".status.stableVersion", 0),
    ("Canary", "string", ".status.canaryVersion", 0),
    ("Weight", "integer", ".status.weight", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Message", "string", ".status.summary", 0),
    ("Step", "string", ".status.step", 1),
    ("Desired", "string", ".status.desiredVersion", 1),
    ("Verified", "integer", ".status.verifiedWeight", 1),
    ("Verdict", "string", ".status.analysis.verdict", 1),
    ("Age", "date", ".metadata.creationTimestamp", 1),
    ("Details", "string", ".status.message", 1),
)


def crd() -> Schema:
    """Return the whole definition."""
    spec = structural(Spec.model_json_schema(by_alias=True))
    # In one place, so that the chart can leave them out for clusters older than 1.25.
    rules = (*RULES, TARGET_IS_IMMUTABLE)
    spec["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
    return definition(
        KIND, PLURAL, COLUMNS,
        "Rolls out new versions of a registered model as canaries, and rolls back versions that fail.",
        {"spec": spec, "status": _status_schema()},
        {"shortNames": ["mp"], "categories": ["all"]},
    )  # fmt: skip


def definition(
    kind: str, plural: str, columns: tuple[Column, ...], description: str, parts: Schema, names: Schema | None = None
) -> Schema:
    """Return a CustomResourceDefinition of this group; `parts` are the schemas of `spec` and perhaps `status`."""
    status: Schema = {"subresources": {"status": {}}} if "status" in parts else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower(), **(names or {}),
            },
            "versions": [{
                "name": VERSION,
                "served": True,
                "storage": True,
                **status,
                "additionalPrinterColumns": [
                    {"name": name, "type": of, "jsonPath": path, **({"priority": rank} if rank else {})}
                    for name, of, path, rank in columns
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": description,
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        **parts,
                    },
                }},
            }],
        },
    }  # fmt: skip


def _status_schema() -> Schema:
    status = structural(State.model_json_schema(by_alias=True))
    status.pop("required", None)
    _keep_old_keys(status, State)
    _keep_old_keys(status["properties"]["route"], RouteState)
    return status


def _keep_old_keys(schema: Schema, part: type[StatusPart]) -> None:
    """List renamed fields under their old names too: the API server drops unlisted ones before anyone reads them."""
    for old, new in part.RENAMED.items():
        kind = schema["properties"][new]["type"]
        schema["properties"][old] = {"type": kind, "description": f"Renamed to `{new}`; read from older operators."}


def structural(schema: Schema, definitions: Schema | None = None) -> Schema:
    """Turn pydantic's JSON schema into a structural one: inline references, drop null and titles."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}
    if "anyOf" in schema:
        some = next(choice for choice in schema["anyOf"] if choice.get("type") != "null")
        rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
        return structural({**some, **rest}, definitions)
    # API servers of 1.20 take an empty string as a default for null.
    dropped = {"default"} if schema.get("default") in (None, "") else set()
    result = {key: value for key, value in schema.items() if key in _KEPT - dropped}
    if "properties" in schema:
        result["properties"] = {name: structural(part, definitions) for name, part in schema["properties"].items()}
    if "items" in schema:
        result["items"] = structural(schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(schema["additionalProperties"], definitions)
    return _without_null_defaults(result)


def _without_null_defaults(schema: Schema) -> Schema:
    if isinstance(schema.get("default"), dict | list):
        schema["default"] = json.loads(json.dumps(schema["default"]), object_hook=_drop_null)
    return schema


def _drop_null(document: Schema) -> Schema:
    return {key: value for key, value in document.items() if value is not None}


def render() -> str:
    """Return the definition as YAML."""
    return to_yaml(crd(), "promoter.api.crd")


def to_yaml(document: Schema, module: str) -> str:
    """Return a definition as YAML that says which module it is from."""
    return f"# Rendered by `python -m {module}`.\n" + str(yaml.safe_dump(document, sort_keys=False, width=110))


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201 - what this program is for
