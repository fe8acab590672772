"""The values schemas: charts share definitions by copies, because a packaged chart can only refer to its own schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from charts.rendering import CHARTS, NAMES

SHARED: dict[str, Any] = json.loads((CHARTS / "common/values.definitions.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_has_exactly_the_shared_definitions_that_it_uses(name: str) -> None:
    text = (CHARTS / name / "values.schema.json").read_text()
    used = set(re.findall(r'"#/definitions/(\w+)"', text))
    assert {"imagePullSecrets", "caBundle"} <= used
    assert json.loads(text)["definitions"] == {definition: SHARED[definition] for definition in used}


@pytest.mark.parametrize("name", NAMES)
def test_every_object_in_a_schema_says_which_keys_it_allows(name: str) -> None:
    schema = json.loads((CHARTS / name / "values.schema.json").read_text())
    # `global` belongs to all charts of a release, also to those of others that include one of these.
    allowed = set() if name == "credit-risk" else {"/properties/global"}
    assert set(_open_objects(schema)) == allowed


def _open_objects(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the paths of objects that list their properties and accept others as well."""
    found = [path] if "properties" in schema and "additionalProperties" not in schema else []
    for key in ("properties", "definitions"):
        for name, inner in schema.get(key, {}).items():
            found += _open_objects(inner, f"{path}/{key}/{name}")
    if "items" in schema:
        found += _open_objects(schema["items"], f"{path}/items")
    return found
