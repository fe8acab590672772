"""Seals: what each finished day adds to the logs, as one root that lies apart from the database."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import msgspec
import psycopg

from decisions.archive.bucket import Bucket, TakenError
from decisions.archive.rows import leaves_of_log, logs
from decisions.database.id_ranges import first_id, time_of
from decisions.errors import DifferenceError
from decisions.records.merkle import MerkleTree

logger = logging.getLogger(__name__)
_FOLDER = "seals/"
# There is one for each day, and reading one is waiting.
_READERS = 8
# A decision that claims to be of the future, by a clock that is off, is sealed now.
_END_OF_LOG = """
SELECT max(sequence) FROM decisions WHERE log_id = %s AND sequence > %s AND (id < %s OR id >= %s)
"""
NO_SEAL = "0" * 64


class SealedLog(msgspec.Struct, frozen=True):
    """The part of a log that a seal covers: from the first to the last sequence, whose hash (hex) is the head."""

    log_id: str
    first: int
    last: int
    head: str


class Seal(msgspec.Struct, frozen=True):
    """What the logs gained until the end of a day.

    Attributes:
        date: The day, in UTC. Decisions of earlier days that arrived late are in it, too.
        previous: The SHA-256 (hex) of the previous seal's document; zeros for the first one.
        logs: In the order of their ids.
        count: How many records they are.
        root: Of the Merkle tree over the records' hashes, by log and sequence; hex.
        days: How many of the records are of each day.
    """

    date: date
    previous: str
    logs: tuple[SealedLog, ...]
    count: int
    root: str
    days: dict[str, int]
    format: int = 1


class StoredSeal(msgspec.Struct, frozen=True):
    """A seal and its document, byte for byte."""

    seal: Seal
    document: bytes

    @property
    def sha256(self) -> str:
        """The digest of the document in hex, by which the next seal names it."""
        return sha256(self.document).hexdigest()


def load_seals(bucket: Bucket) -> list[StoredSeal]:
    """Return all seals, the oldest first.

    Raises:
        DifferenceError: An object in the seals' folder is none, or has another's date.
    """
    found, keys = [], bucket.keys(_FOLDER)
    with ThreadPoolExecutor(_READERS) as readers:
        documents = readers.map(bucket.read, keys)
    for key, document in zip(keys, documents, strict=True):
        try:
            seal = msgspec.json.decode(document, type=Seal)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DifferenceError(f"{key} is no seal: {error}") from error
        if key != _key(seal.date):
            raise DifferenceError(f"{key} is the seal of another day, {seal.date}")
        found.append(StoredSeal(seal, document))
    return found


def heads_of(seals: Sequence[StoredSeal]) -> dict[str, SealedLog]:
    """Return the newest sealed part of each log."""
    return {log.log_id: log for stored in seals for log in stored.seal.logs}


def seal_finished_days(connection: psycopg.Connection, bucket: Bucket, now: datetime) -> Iterator[Seal]:
    """Seal each day since the last seal that is over; of days before the first seal, the last one alone.

    Raises:
        DifferenceError: There is a seal of a day already, with other contents.
    """
    seals = load_seals(bucket)
    yesterday = now.date() - timedelta(days=1)
    day = seals[-1].seal.date + timedelta(days=1) if seals else yesterday
    while day <= yesterday:
        with connection.transaction():
            seal = _seal_of(connection, day, seals, now)
        document = msgspec.json.encode(seal)
        try:
            bucket.write_new(_key(day), document)
        except TakenError as error:
            raise DifferenceError(f"the seal of {day} was written by someone else meanwhile: {error}") from error
        stored = StoredSeal(seal, document)
        logger.info("sealed %s: %d records of %d logs, root %s, seal %s", day, seal.count, len(seal.logs), seal.root,
                    stored.sha256)  # fmt: skip
        seals.append(stored)
        yield seal
        day += timedelta(days=1)


def _seal_of(connection: psycopg.Connection, day: date, seals: Sequence[StoredSeal], now: datetime) -> Seal:
    end = first_id(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1))
    future = first_id(now + timedelta(days=1))
    heads, tree, days, sealed = heads_of(seals), MerkleTree(), Counter[str](), list[SealedLog]()
    for log_id in logs(connection):
        before = heads[log_id].last if log_id in heads else 0
        row = connection.execute(_END_OF_LOG, [log_id, before, end, future]).fetchone()
        if row is None or row[0] is None:
            continue
        head = b""
        for id_, hash_ in leaves_of_log(connection, log_id, before + 1, row[0]):
            head = hash_
            tree.add(head)
            days[time_of(id_).date().isoformat()] += 1
        sealed.append(SealedLog(log_id, before + 1, row[0], head.hex()))
    previous = seals[-1].sha256 if seals else NO_SEAL
    return Seal(day, previous, tuple(sealed), tree.leaves, tree.root().hex(), dict(sorted(days.items())))


def _key(day: date) -> str:
    return f"{_FOLDER}{day.isoformat()}.json"
