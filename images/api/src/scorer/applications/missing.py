"""How CSV, which has no null, says that a value is missing."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET

from scorer.applications.rows import Column
from scorer.contract import CategoricalFeature, Contract

# What spreadsheets, SQL, R, Python and old data sets write; the same list as in training (docs/scoring.md).
CSV_MISSING = frozenset({"", "NA", "N/A", "NaN", "null", "NULL", "None", "-", "?", "."})


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
