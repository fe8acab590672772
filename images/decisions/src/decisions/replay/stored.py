"""What the database holds of a decision that is replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from decisions.records.model_versions import ModelVersion
from decisions.records.record import DecisionInputs

# The inputs as text: the hash is of these very bytes.
_QUERY = """
    SELECT d.endpoint, d.probability, d.points, d.decision, d.grade, d.reasons, d.inputs_hash, d.model_version,
        v.name, v.version, v.digests, v.contract, i.applicant_id, i.salt, i.inputs::text AS inputs
    FROM decisions d JOIN model_versions v ON v.id = d.model_version LEFT JOIN decision_inputs i ON i.id = d.id
    WHERE d.id = %s
"""


@dataclass(frozen=True)
class StoredDecision:
    """A decision's result, what it was made of, and by which version.

    Attributes:
        endpoint: The label in the scoring service's metrics.
        probability: Of default; the shortest decimal that is the same float32.
        points: Score points.
        decision: What the contract's threshold made of the probability.
        grade: On the model's master scale, if it has one.
        reasons: Reason codes, if the request asked for them.
        inputs_hash: Of its inputs.
        version_id: The id that the record names its version by.
        version: The version.
        inputs: None if they were forgotten.
    """

    endpoint: str
    probability: float
    points: int
    decision: Literal["approve", "decline"]
    grade: str | None
    reasons: Sequence[str] | None
    inputs_hash: bytes
    version_id: UUID
    version: ModelVersion
    inputs: DecisionInputs | None


async def read_stored(connection: AsyncConnection[Any], decision_id: UUID) -> StoredDecision | None:
    """Return a decision, or None if the database has none with this id."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_QUERY, [decision_id])
    row = await cursor.fetchone()
    if row is None:
        return None
    names = ("endpoint", "probability", "points", "decision", "grade", "reasons", "inputs_hash")
    return StoredDecision(
        **{name: row[name] for name in names},
        version_id=row["model_version"],
        version=ModelVersion(row["name"], row["version"], row["digests"], row["contract"]),
        inputs=None if row["inputs"] is None else DecisionInputs(row["applicant_id"], row["salt"], row["inputs"]),
    )
