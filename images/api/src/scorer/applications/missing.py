"""How protocols other than JSON say that a value is missing: texts in CSV, and NaN in what should be JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from scorer.applications.decoder import read_json
from scorer.applications.rows import Column
from scorer.contract import CategoricalFeature, Contract
from scorer.problems import Problem

# What spreadsheets, SQL, R, Python and old data sets write; the same list as in training (docs/scoring.md).
CSV_MISSING = frozenset({"", "NA", "N/A", "NaN", "null", "NULL", "None", "-", "?", "."})
# A string, even one that does not end, or NaN outside of strings.
_STRING_OR_NAN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|NaN', re.DOTALL)


def with_missing(columns: Mapping[str, Column], contract: Contract) -> dict[str, Column]:
    """Return a CSV body's columns with null or unset where a feature's text means missing; a category never does."""
    found = dict(columns)
    for feature in contract.features:
        if feature.name in found:
            words = feature.categories if isinstance(feature, CategoricalFeature) else ()
            texts = CSV_MISSING.difference(words)
            # A feature that requires a value is reported as missing, not as null, which CSV does not have.
            missing = None if feature.missing else UNSET
            found[feature.name] = [missing if value in texts else value for value in found[feature.name]]
    return found


def read_json_with_nan(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the decoded body, with null for NaN, which pandas and numpy users send although JSON does not have it.

    Raises:
        Problem: What `read_json` raises.
    """
    try:
        return read_json(body)
    except Problem:
        if b"NaN" not in body:
            raise
        return read_json(_STRING_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body))
