"""Compares the records of a log with their hashes, with one another, and with what a seal says of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from decisions.archive.rows import StoredDecision
from decisions.records.record import FIRST_PREVIOUS_HASH, chain_hash


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was written.

    Attributes:
        kind: changed, removed, inserted, inputs, seal, version or archive.
        message: For people.
        decision_id: The decision that it is about, if it is about one.
        log_id: Its log.
        sequence: Its place there, or that of the first record that is missing.
    """

    kind: str
    message: str
    decision_id: str | None = None
    log_id: str | None = None
    sequence: int | None = None


@dataclass
class Findings:
    """What a verification has seen so far."""

    records: int = 0
    forgotten: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, kind: str, message: str, decision: StoredDecision | None = None) -> None:
        """Add a difference."""
        place = (decision.record.id, *decision.place) if decision else ()
        self.differences.append(Difference(kind, message, *place))


@dataclass
class Head:
    """Where a log has arrived: a sequence and its hash, which is None behind a gap."""

    sequence: int = 0
    hash: bytes | None = FIRST_PREVIOUS_HASH


def follow(decisions: Iterable[StoredDecision], head: Head, findings: Findings, take: Callable[[bytes], None]) -> None:
    """Compare the decisions of one log with their hashes and with one another.

    Args:
        decisions: In the order of their sequences.
        head: What they follow; it is moved on.
        findings: Takes what differs.
        take: Is given the hash of each record, without those that were inserted.
    """
    for sequence, same in itertools.groupby(decisions, lambda decision: decision.record.sequence):
        candidates = list(same)
        if sequence <= head.sequence:
            for one in candidates:
                findings.add("inserted", f"{_name(one)} has a sequence that its log does not have", one)
            continue
        decision = next((one for one in candidates if _fits(one, head)), candidates[0])
        for one in candidates:
            if one is not decision:
                findings.add("inserted", f"{_name(one)} is a second one in the place of {decision.record.id}", one)
        if sequence > head.sequence + 1:
            report_removed(decision.record.log_id, head.sequence + 1, sequence - 1, findings)
            head.hash = None
        _check(decision, head, findings)
        take(decision.hash)
        head.sequence, head.hash = sequence, decision.hash


def report_removed(log_id: str, first: int, last: int, findings: Findings) -> None:
    """Add that records are missing."""
    what = f"record {first} is" if first == last else f"the {last - first + 1} records from {first} to {last} are"
    findings.differences.append(Difference("removed", f"{what} missing from log {log_id}", None, log_id, first))


def _check(decision: StoredDecision, head: Head, findings: Findings) -> None:
    findings.records += 1
    if chain_hash(decision.previous_hash, decision.record) != decision.hash:
        findings.add("changed", f"{_name(decision)} does not fit its hash: it was changed", decision)
    if head.hash is not None and decision.previous_hash != head.hash:
        findings.add("changed", f"{_name(decision)} does not follow record {head.sequence} of its log: one of them was "
                                "changed or replaced", decision)  # fmt: skip
    if decision.inputs is None:
        findings.forgotten += 1
    elif decision.inputs.hash().hex() != decision.record.inputs_hash:
        findings.add("inputs", f"the inputs of {_name(decision)} do not fit their hash: they were changed", decision)


def _fits(decision: StoredDecision, head: Head) -> bool:
    follows = head.hash is None or decision.previous_hash == head.hash
    return follows and chain_hash(decision.previous_hash, decision.record) == decision.hash


def _name(decision: StoredDecision) -> str:
    record = decision.record
    return f"decision {record.id} (record {record.sequence} of log {record.log_id})"
