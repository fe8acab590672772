"""The applicants' ids of a table, which clients write as text or as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import UnsetType

from scorer.applications.rows import Column
from scorer.contract import APPLICANT_ID
from scorer.problems import FieldProblem, Problem

# One per row, None for a row without one.
ApplicantIds = Sequence[str | None]


def read_applicant_ids(values: Column | None, count: int) -> ApplicantIds | None:
    """Return the ids in a table's column; None if there is no column, or no id in it.

    An integer is an id, also one that became a float because other rows have none. Any other value is no id.

    Raises:
        Problem: 422 unless there are `count` values.
    """
    if values is None:
        return None
    given: Sequence[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    if len(given) != count:
        problem = FieldProblem(APPLICANT_ID, f"has {len(given)} values", f"{count}, as the other columns")
        raise Problem(422, f"columns differ in length: {APPLICANT_ID} {len(given)}, others {count}", (problem,))
    kinds = set(map(type, given))
    if kinds == {str} and "" not in given:
        return given
    if kinds <= {type(None), UnsetType}:
        return None
    return [_id_of(value) for value in given]


def joined_ids(parts: Sequence[tuple[ApplicantIds | None, int]]) -> ApplicantIds | None:
    """Return the ids of all parts of a table, each with its number of rows."""
    if all(ids is None for ids, _ in parts):
        return None
    return [one for ids, count in parts for one in (ids or [None] * count)]


def _id_of(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None
