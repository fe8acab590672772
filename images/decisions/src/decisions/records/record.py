"""A decision's record, and the hashes that make a later change of it visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import msgspec

from decisions.segments.events import Role

# What the first record of a log follows.
FIRST_PREVIOUS_HASH = bytes(32)
_json = msgspec.json.Encoder()


class Record(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is kept of a decision without personal data; as JSON, it is the document that is hashed.

    Attributes:
        id: The decision's UUIDv7, as text.
        request_id: Of the request that it answered.
        row: In its request; 0 for a single application.
        endpoint: The label in the service's metrics.
        role: As whose answer it was scored.
        client: Who asked, as access control knows it; empty if access is open.
        model_version: The id of the model version, a UUID as text.
        probability: Of default; the shortest decimal that is the same float32.
        points: Score points.
        decision: What the contract's threshold makes of the probability.
        grade: On the model's master scale, if it has one.
        reasons: Reason codes, if the request asked for them.
        latency_us: Microseconds from the end of the request's body to the scores.
        pod: Which scored it.
        log_id: The log that it is in, a UUID as text.
        sequence: Its place in the log, from 1.
        inputs_hash: Of its inputs, in hex.
    """

    id: str
    request_id: str
    row: int
    endpoint: str
    role: Role
    client: str
    model_version: str
    probability: float
    points: int
    decision: Literal["approve", "decline"]
    grade: str | None
    reasons: Sequence[str] | None
    latency_us: int
    pod: str
    log_id: str
    sequence: int
    inputs_hash: str

    def document(self) -> bytes:
        """Return the JSON array of all attributes, without spaces."""
        return _json.encode(self)


@dataclass(frozen=True, slots=True)
class DecisionInputs:
    """The personal data of a decision.

    Attributes:
        applicant_id: Whom it is about, if the request said.
        salt: 16 bytes.
        inputs: The JSON object of the features' values, in the contract's order.
    """

    applicant_id: str | None
    salt: bytes
    inputs: str

    def document(self) -> bytes:
        """Return the JSON object of applicant and inputs, without spaces."""
        applicant = _json.encode(self.applicant_id)
        return b'{"applicant_id":%b,"inputs":%b}' % (applicant, self.inputs.encode())

    def hash(self) -> bytes:
        """Return what the record keeps of them: 32 bytes that no one can guess the inputs from without the salt."""
        return sha256(self.salt + self.document()).digest()


@dataclass(frozen=True, slots=True)
class ChainedRecord:
    """A record with its place in the log's chain of hashes, and its inputs."""

    record: Record
    previous_hash: bytes
    hash: bytes
    inputs: DecisionInputs


def salt_of(seed: bytes, decision_id: bytes) -> bytes:
    """Return a decision's salt, 16 bytes, from the seed of its group."""
    return sha256(seed + decision_id).digest()[:16]


def chain_hash(previous_hash: bytes, record: Record) -> bytes:
    """Return the hash of a record that follows the one with `previous_hash`."""
    return sha256(previous_hash + record.document()).digest()
