"""What a replay found: the decision as it was recorded and as it is computed now, and what differs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from decisions.reading.decisions import ModelVersion
from decisions.records.numbers import shortest_of
from decisions.replay.files import VersionFiles
from decisions.replay.scoring import Replayed
from decisions.replay.stored import StoredDecision

Part = Literal["inputs", "probability_of_default", "score_points", "decision", "grade", "reasons"]


class ReplayedValues(BaseModel):
    """A decision's result."""

    probability_of_default: float
    probability_bits: str = Field(description="Of its float32, in hex, the sign first", pattern="^[0-9a-f]{8}$")
    score_points: int
    decision: Literal["approve", "decline"]
    grade: str | None
    reasons: list[str] | None = Field(
        description="Reason codes; null if the request asked for none. Recomputed are as many as were recorded; "
        "one, if there is one now, where none was recorded"
    )


class ReplayRuntime(BaseModel):
    """What scored: bits may differ between versions of ONNX Runtime and between processors."""

    scorer_sha256: str = Field(description="Of the scoring service's sources")
    onnxruntime: str
    machine: str
    cpu: str
    cpu_features: list[str] = Field(description="The instructions that matter for scoring")


class Replay(BaseModel):
    """A decision, scored again with the version that made it."""

    decision_id: UUID
    same: bool = Field(description="Whether nothing differs, the probability bit by bit")
    differences: list[Part] = Field(description="`inputs`: they are not those that were hashed when it was made")
    recorded: ReplayedValues
    recomputed: ReplayedValues
    rows: int = Field(description="With how many rows at once the network was asked to get the recomputed probability")
    model: ModelVersion
    artifacts: dict[str, str] = Field(description="Where each file came from: archive, registry or database")
    runtime: ReplayRuntime


def bits_of(probability: float) -> str:
    """Return the bits of a number's float32, in hex."""
    return struct.pack(">f", probability).hex()


def compare(decision_id: UUID, stored: StoredDecision, replayed: Replayed, files: VersionFiles) -> Replay:
    """Return what a replay of a decision found."""
    recorded = _values(stored)
    recomputed = _values(replayed)
    differences = list(_differences(stored, recorded, recomputed))
    version = stored.version
    return Replay(
        decision_id=decision_id, same=not differences, differences=differences, recorded=recorded,
        recomputed=recomputed, rows=replayed.rows,
        model=ModelVersion(name=version.name, version=version.version, digests=dict(version.digests)),
        artifacts=dict(files.places),
        runtime=ReplayRuntime.model_validate(replayed.runtime, from_attributes=True),
    )  # fmt: skip


def inputs_are_those_hashed(stored: StoredDecision) -> bool:
    """Say whether a decision's inputs are those whose hash its record has."""
    return stored.inputs is not None and stored.inputs.hash() == stored.inputs_hash


def _values(source: StoredDecision | Replayed) -> ReplayedValues:
    return ReplayedValues(
        probability_of_default=shortest_of(source.probability), probability_bits=bits_of(source.probability),
        score_points=source.points, decision=source.decision, grade=source.grade,
        reasons=None if source.reasons is None else list(source.reasons),
    )  # fmt: skip


def _differences(stored: StoredDecision, recorded: ReplayedValues, recomputed: ReplayedValues) -> Iterator[Part]:
    if not inputs_are_those_hashed(stored):
        yield "inputs"
    if recorded.probability_bits != recomputed.probability_bits:
        yield "probability_of_default"
    parts: tuple[Part, ...] = ("score_points", "decision", "grade", "reasons")
    for part in parts:
        if getattr(recorded, part) != getattr(recomputed, part):
            yield part
