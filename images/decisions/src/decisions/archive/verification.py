"""Recomputes hashes, chains and seals from the database, and from the archive for months that were dropped."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import psycopg

from decisions.archive.bucket import Bucket
from decisions.archive.chain import Findings, Head, follow, report_removed
from decisions.archive.files import archived_days, read_day
from decisions.archive.rows import StoredDecision, decisions_of_log, logs
from decisions.archive.seals import NO_SEAL, Seal, SealedLog, StoredSeal, heads_of, load_seals
from decisions.database.partitions import Month, months_with_partitions
from decisions.errors import DecisionsError
from decisions.records.merkle import MerkleTree
from decisions.records.model_versions import ModelVersion

logger = logging.getLogger(__name__)
_LAST_SEQUENCE = (1 << 63) - 1
_FIRST_SEQUENCE = -1 << 63
_ORPHANS = "SELECT i.id::text FROM decision_inputs i LEFT JOIN decisions d ON d.id = i.id WHERE d.id IS NULL ORDER BY 1"
_VERSIONS = "SELECT id, name, version, digests, contract FROM model_versions ORDER BY name, version"


@dataclass
class Verification:
    """What was verified, and what was found.

    Attributes:
        findings: Records, forgotten inputs, and differences.
        seals: How many seals were recomputed.
        unsealed: How many of the records no seal covers yet; only their chain could be verified.
    """

    findings: Findings = field(default_factory=Findings)
    seals: int = 0
    unsealed: int = 0


@dataclass(frozen=True)
class _Days:
    """The days to verify; without a limit if it is None."""

    since: date | None
    until: date | None

    def __contains__(self, day: date) -> bool:
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


@dataclass(frozen=True)
class _Sources:
    connection: psycopg.Connection
    bucket: Bucket
    archived: frozenset[date]


def verify(
    connection: psycopg.Connection,
    bucket: Bucket,
    seal_store: Bucket,
    *,
    since: date | None = None,
    until: date | None = None,
) -> Verification:
    """Verify the seals of the days from `since` to `until`; without `until`, what is not sealed yet as well.

    Raises:
        DecisionsError: The store refuses, or a seal cannot be read.
    """
    seals, result, wanted = load_seals(seal_store), Verification(), _Days(since, until)
    with connection.transaction():
        # All that is read is of one moment, while the shippers go on.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        months = set(months_with_partitions(connection))
        archived = frozenset(day for day in archived_days(bucket) if Month.of(day) not in months)
        sources = _Sources(connection, bucket, archived)
        _verify_order(seals, result.findings)
        heads: dict[str, SealedLog] = {}
        for stored in seals:
            if stored.seal.date in wanted:
                _verify_seal(sources, stored.seal, heads, result.findings)
                result.seals += 1
                logger.info("verified %s: %d records", stored.seal.date, stored.seal.count)
            heads.update(heads_of([stored]))
        for day in sorted(day for day in archived if day in wanted):
            _verify_nothing_is_unsealed(sources, day, heads, result.findings)
        _verify_versions(connection, result.findings)
        if until is None:
            _verify_unsealed(connection, heads, result)
            for (orphan,) in connection.execute(_ORPHANS).fetchall():
                result.findings.add("removed", f"decision {orphan} is missing: its inputs are there")
    return result


def _verify_order(seals: Sequence[StoredSeal], findings: Findings) -> None:
    if seals and seals[0].seal.previous != NO_SEAL:
        findings.add("seal", f"the seal before that of {seals[0].seal.date} is missing")
    for before, after in itertools.pairwise(seals):
        if after.seal.date != before.seal.date + timedelta(days=1):
            findings.add("seal", f"the seals between {before.seal.date} and {after.seal.date} are missing")
        elif after.seal.previous != before.sha256:
            findings.add("seal", f"the seal of {before.seal.date} was changed: that of {after.seal.date} names another")


def _verify_seal(sources: _Sources, seal: Seal, before: Mapping[str, SealedLog], findings: Findings) -> None:
    tree, found = MerkleTree(), len(findings.differences)
    missing = {log.log_id: log for log in seal.logs}
    decisions = _decisions(sources, seal, dict(missing), findings)
    for log_id, of_log in itertools.groupby(decisions, lambda decision: decision.record.log_id):
        _verify_log(of_log, missing.pop(log_id), before.get(log_id), tree, findings)
    for log in missing.values():
        report_removed(log.log_id, log.first, log.last, findings)
    if (tree.leaves, tree.root().hex()) == (seal.count, seal.root):
        return
    if len(findings.differences) > found:
        findings.add("seal", f"the seal of {seal.date} does not match, because of the differences above")
    else:
        findings.add("seal", f"the seal of {seal.date} does not match: it says {seal.count} records with the root "
                             f"{seal.root}, and there are {tree.leaves} with the root {tree.root().hex()}")  # fmt: skip


def _verify_log(
    decisions: Iterator[StoredDecision],
    sealed: SealedLog,
    before: SealedLog | None,
    tree: MerkleTree,
    findings: Findings,
) -> None:
    head = Head(before.last, bytes.fromhex(before.head)) if before else Head()
    follow(decisions, head, findings, tree.add)
    if head.sequence < sealed.last:
        report_removed(sealed.log_id, head.sequence + 1, sealed.last, findings)
    elif head.hash != bytes.fromhex(sealed.head):
        findings.add("changed", f"record {sealed.last} of log {sealed.log_id} is another than the one that was sealed")


def _decisions(
    sources: _Sources, seal: Seal, wanted: Mapping[str, SealedLog], findings: Findings
) -> Iterator[StoredDecision]:
    """Yield all that a seal covers, by log and sequence, from wherever it is."""
    days = [day for day in map(date.fromisoformat, seal.days) if day in sources.archived]
    archived = [_archived(sources, day, wanted, findings) for day in days]
    stored = itertools.chain.from_iterable(
        decisions_of_log(sources.connection, log.log_id, _first(log), log.last) for log in seal.logs
    )
    return heapq.merge(stored, *archived, key=lambda decision: decision.place)


def _archived(
    sources: _Sources, day: date, wanted: Mapping[str, SealedLog], findings: Findings
) -> Iterator[StoredDecision]:
    try:
        for decision in read_day(sources.bucket, day):
            log = wanted.get(decision.record.log_id)
            if log and _first(log) <= decision.record.sequence <= log.last:
                yield decision
    except DecisionsError as error:
        findings.add("archive", str(error))


def _first(log: SealedLog) -> int:
    # A record before the first one can only have been inserted, and is to be found.
    return _FIRST_SEQUENCE if log.first == 1 else log.first


def _verify_nothing_is_unsealed(
    sources: _Sources, day: date, heads: Mapping[str, SealedLog], findings: Findings
) -> None:
    """Find decisions in the archive that no seal covers: only what was sealed gets there."""
    try:
        for decision in read_day(sources.bucket, day):
            head = heads.get(decision.record.log_id)
            if head is None or decision.record.sequence > head.last:
                words = f"decision {decision.record.id} is in the archive of {day}, but in no seal"
                findings.add("inserted", words, decision)
    except DecisionsError:
        # Reported with the seal of that day.
        return


def _verify_versions(connection: psycopg.Connection, findings: Findings) -> None:
    for id_, name, version, digests, contract in connection.execute(_VERSIONS).fetchall():
        if ModelVersion(name, version, digests, contract).id != id_:
            findings.add("version", f"version {version} of model {name} was changed: {id_} is not its id")


def _verify_unsealed(connection: psycopg.Connection, heads: Mapping[str, SealedLog], result: Verification) -> None:
    before = result.findings.records
    for log_id in logs(connection):
        sealed = heads.get(log_id)
        head = Head(sealed.last, bytes.fromhex(sealed.head)) if sealed else Head()
        first = sealed.last + 1 if sealed else _FIRST_SEQUENCE
        follow(decisions_of_log(connection, log_id, first, _LAST_SEQUENCE), head, result.findings, lambda _: None)
    result.unsealed = result.findings.records - before
