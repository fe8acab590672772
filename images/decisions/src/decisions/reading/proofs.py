"""Proof that a decision is among those of a seal, which others can check without the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from pydantic import BaseModel, Field

from decisions.database.id_ranges import LAST_ID
from decisions.errors import DifferenceError
from decisions.records.merkle import TILE_LEAVES, audit_path, leaf_node, root_of
from decisions.records.record import DecisionInputs, Record

_RECORD = """
SELECT d.id::text, request_id, "row", endpoint, role, client, model_version::text, probability, points, decision,
       grade, reasons, latency_us, pod, log_id::text, sequence, inputs_hash, previous_hash, hash, salt, applicant_id,
       inputs::text
FROM decisions d LEFT JOIN decision_inputs i ON i.id = d.id AND i.id >= %(low)s AND i.id < %(high)s
WHERE d.id = %(low)s
"""
_SEAL = """
SELECT s.date, s.sha256, s.document, s.tiles, l.leaf + %(sequence)s - l.first
FROM sealed_logs l JOIN seals s USING (date)
WHERE l.log_id = %(log)s AND l.first <= %(sequence)s AND l.last >= %(sequence)s
"""
_LOGS_OF_TILE = """
SELECT log_id, first, last, leaf FROM sealed_logs
WHERE date = %(date)s AND leaf < %(end)s AND leaf + last - first >= %(start)s ORDER BY leaf
"""
_HASHES = "SELECT hash FROM decisions WHERE log_id = %s AND sequence >= %s AND sequence <= %s ORDER BY sequence, id"


class ProvenInputs(BaseModel):
    """The personal data of a decision, and what its hash is made of."""

    document: str = Field(description="JSON of applicant and inputs, byte for byte as it was hashed")
    salt: str = Field(description="In hex. SHA-256 of salt and document is the record's last element")


class Proof(BaseModel):
    """What shows that a decision is in a seal; hashes are SHA-256 in hex.

    hash = SHA-256(previous_hash, record); it is the leaf at `leaf` of the seal's Merkle tree (RFC 6962), whose root
    follows from it and `path`. The seal is to be compared with the one in S3, or with its digest from elsewhere.
    """

    decision_id: UUID
    record: str = Field(description="The record as a JSON array, byte for byte as it was hashed")
    previous_hash: str
    hash: str
    inputs: ProvenInputs | None = Field(description="null if they were deleted on request")
    leaf: int
    path: list[str] = Field(description="The other nodes on the way to the root, the lowest first")
    seal_sha256: str = Field(description="Of the seal's document")
    seal: str = Field(description="The seal's document, with the tree's size (count) and root")


@dataclass(frozen=True)
class _Seal:
    """A seal as the database has it, and the leaf that is asked for."""

    date: date
    sha256: bytes
    document: str
    tiles: bytes | None
    leaf: int

    @property
    def tile(self) -> int:
        """The number of the leaf's tile."""
        return self.leaf // TILE_LEAVES


class NotSealedError(Exception):
    """No seal covers the decision yet."""


async def get_proof(connection: AsyncConnection[Any], decision_id: UUID) -> Proof | None:
    """Return the proof of the decision with this id, if there is one.

    Raises:
        NotSealedError: No seal covers it yet.
        DifferenceError: The database's records are not those that were sealed.
    """
    high = UUID(int=min(decision_id.int + 1, LAST_ID.int))
    row = await (await connection.execute(_RECORD, {"low": decision_id, "high": high})).fetchone()
    if row is None:
        return None
    *values, inputs_hash, previous_hash, hash_, salt, applicant_id, inputs = row
    record = Record(*[*values, inputs_hash.hex()])
    seal = await _seal_of(connection, record)
    path = await _path(connection, seal, hash_)
    kept = None if salt is None else DecisionInputs(applicant_id, salt, inputs)
    return Proof(
        decision_id=decision_id,
        record=record.document().decode(),
        previous_hash=previous_hash.hex(),
        hash=hash_.hex(),
        inputs=kept and ProvenInputs(document=kept.document().decode(), salt=kept.salt.hex()),
        leaf=seal.leaf,
        path=[node.hex() for node in path],
        seal_sha256=seal.sha256.hex(),
        seal=seal.document,
    )


async def _seal_of(connection: AsyncConnection[Any], record: Record) -> _Seal:
    found = await connection.execute(_SEAL, {"log": record.log_id, "sequence": record.sequence})
    row = await found.fetchone()
    if row is None:
        raise NotSealedError
    return _Seal(*row)


async def _path(connection: AsyncConnection[Any], seal: _Seal, hash_: bytes) -> list[bytes]:
    """Return the path of a leaf from the leaves of its tile and the roots of all tiles."""
    start = seal.tile * TILE_LEAVES
    leaves = await _leaves(connection, seal.date, start, start + TILE_LEAVES)
    tiles = [] if seal.tiles is None else [seal.tiles[at : at + 32] for at in range(0, len(seal.tiles), 32)]
    index = seal.leaf - start
    if (
        seal.tile >= len(tiles)
        or index >= len(leaves)
        or leaves[index] != hash_
        or root_of(nodes := [leaf_node(leaf) for leaf in leaves]) != tiles[seal.tile]
    ):
        raise DifferenceError(f"the records of the seal of {seal.date} are not those that were sealed; "
                              "`python -m decisions verify` names those that were changed")  # fmt: skip
    return audit_path(nodes, index) + audit_path(tiles, seal.tile)


async def _leaves(connection: AsyncConnection[Any], day: date, start: int, end: int) -> list[bytes]:
    """Return the hashes at the leaves from `start` to before `end` of a day's seal."""
    logs = await connection.execute(_LOGS_OF_TILE, {"date": day, "start": start, "end": end})
    hashes: list[bytes] = []
    for log_id, first, last, leaf in await logs.fetchall():
        low, high = first + max(0, start - leaf), min(last, first + end - 1 - leaf)
        found = await connection.execute(_HASHES, [log_id, low, high])
        hashes += [hash_ for (hash_,) in await found.fetchall()]
    return hashes
