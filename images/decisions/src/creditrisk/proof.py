"""Checks the proof that a decision is in a seal, with nothing but the proof and what is known of the seal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any


class ProofError(Exception):
    """The proof does not hold; the message says where."""


def check_proof(proof: dict[str, Any], seal: bytes | None = None, seal_digest: str | None = None) -> dict[str, Any]:
    """Recompute the hashes of a proof, and return what it shows: decision, day and digest of the seal.

    Args:
        proof: As `GET /v1/decisions/{id}/proof` answers.
        seal: The seal's document from S3, if it is at hand.
        seal_digest: The seal's SHA-256 in hex from elsewhere, such as from the log of the run that wrote it.

    Raises:
        ProofError: A hash is not the one that it should be, or the proof is none.
    """
    try:
        return _check(proof, seal, seal_digest)
    except (KeyError, TypeError, ValueError) as error:
        raise ProofError(f"this is no proof of a decision: {error!r}") from error


def _check(proof: dict[str, Any], seal: bytes | None, seal_digest: str | None) -> dict[str, Any]:
    document = proof["seal"].encode()
    record, sealed = json.loads(proof["record"]), json.loads(document)
    inputs = proof["inputs"]
    hash_ = sha256(bytes.fromhex(proof["previous_hash"]) + proof["record"].encode()).digest()
    inputs_hash = inputs and sha256(bytes.fromhex(inputs["salt"]) + inputs["document"].encode()).hexdigest()
    path = [bytes.fromhex(node) for node in proof["path"]]
    digest = sha256(document).hexdigest()
    for holds, words in (
        (record[0] == proof["decision_id"], "the record is that of another decision"),
        (hash_.hex() == proof["hash"], "the record does not fit its hash: it was changed"),
        (inputs is None or inputs_hash == record[-1], "the inputs do not fit their hash: they were changed"),
        (digest == proof["seal_sha256"], "the seal does not fit its digest: it was changed"),
        (seal is None or seal == document, "the seal is not the one that was given: one of them was changed"),
        (seal_digest in {None, digest}, f"the seal's digest is {digest}, and not the one that was given"),
        (_root(hash_, proof["leaf"], sealed["count"], path) == sealed["root"], "the record is not in the seal"),
    ):
        if not holds:
            raise ProofError(words)
    return {"decision_id": record[0], "seal": sealed["date"], "seal_sha256": digest, "root": sealed["root"],
            "inputs": "forgotten" if inputs is None else "as they were scored"}  # fmt: skip


def _root(hash_: bytes, leaf: int, count: int, path: Sequence[bytes]) -> str | None:
    """Return the root (hex) of a tree (RFC 6962) of `count` leaves; None if the path has not the length for that."""
    if not 0 <= leaf < count:
        return None
    node, rest = sha256(b"\0" + hash_).digest(), iter(path)
    while count > 1:
        if leaf % 2 or leaf + 1 < count:
            if (sibling := next(rest, None)) is None:
                return None
            node = sha256(b"\1" + (sibling + node if leaf % 2 else node + sibling)).digest()
        leaf, count = leaf // 2, (count + 1) // 2
    return None if next(rest, None) is not None else node.hex()
