"""Decisions in a real Postgres with their hashes, an archive in a real S3 store, and how to tamper with both."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from decisions.archive.bucket import Bucket
from decisions.archive.command import archive
from decisions.archive.registry import Registry
from decisions.archive.verification import Verification, verify
from decisions.database.id_ranges import first_id
from decisions.reading.forgetting import applicant_hash
from decisions.records.model_versions import ModelVersion
from decisions.records.numbers import shortest_of
from decisions.records.record import FIRST_PREVIOUS_HASH, DecisionInputs, Record, chain_hash
from unit.decisions.migrated import Migrated

VERSION = ModelVersion("credit-risk", "7", {"model.onnx": "ab" * 32}, b'{"features": []}')
MAY = datetime(2026, 5, 10, 12, tzinfo=UTC)


def noon(month: int, day: int, year: int = 2026) -> datetime:
    return datetime(year, month, day, 12, tzinfo=UTC)


def insert_version(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO model_versions VALUES (%s, %s, %s, %s, %s)",
        [VERSION.id, VERSION.name, VERSION.version, msgspec.json.encode(VERSION.digests).decode(), VERSION.contract],
    )


@dataclass
class Log:
    """What one process of the service wrote."""

    connection: psycopg.Connection
    id: UUID
    ids: list[str] = field(default_factory=list)
    head: bytes = FIRST_PREVIOUS_HASH
    sequence: int = 0

    def add(self, at: datetime, count: int = 1, *, applicant: str | None = "a-1") -> list[str]:
        """Write decisions as the shipper does and return their ids."""
        with self.connection.transaction():
            added = [self._add(at, applicant) for _ in range(count)]
        self.ids += added
        return added

    def _add(self, at: datetime, applicant: str | None) -> str:
        number = self.sequence = self.sequence + 1
        id_ = str(UUID(int=first_id(at).int | 7 << 76 | 2 << 62 | (self.id.int << 40 | number) & (1 << 62) - 1))
        # Numbers whose float32 is not their float64, and which Postgres and numpy must write alike.
        probability = shortest_of(number * 0.618033988749895 % 1 * 10.0 ** -(number % 9))
        inputs = DecisionInputs(applicant, bytes([number % 256]) * 16, f'{{"income":{number}.5,"purpose":"Käse"}}')
        record = Record(
            id_, f"r-{number}", 0, "score", "champion", "lender", str(VERSION.id), probability, 540, "approve", None,
            ["R1"] if number % 2 else None, 900, "scoring-0", str(self.id), number, inputs.hash().hex(),
        )  # fmt: skip
        hash_ = chain_hash(self.head, record)
        *columns, inputs_hash = msgspec.structs.astuple(record)
        with self.connection.cursor().copy("COPY decisions FROM STDIN") as copy:
            copy.write_row([*columns, bytes.fromhex(inputs_hash), self.head, hash_])
        with self.connection.cursor().copy("COPY decision_inputs FROM STDIN") as copy:
            copy.write_row([id_, inputs.applicant_id, inputs.salt, inputs.inputs])
        self.head = hash_
        return id_


@dataclass
class Site:
    """The database, its archive, and the roles' connections."""

    database: Migrated
    owner: psycopg.Connection
    writer: psycopg.Connection
    bucket: Bucket
    store: dict[str, str]

    @classmethod
    @contextmanager
    def of(cls, database: Migrated, client: Any, bucket: str, store: dict[str, str]) -> Iterator[Site]:
        with (
            psycopg.connect(database.url("owner"), autocommit=True) as owner,
            psycopg.connect(database.url("writer"), autocommit=True) as writer,
        ):
            insert_version(writer)
            yield cls(database, owner, writer, Bucket(bucket, "stack", client), store)

    def variables(self, role: str) -> dict[str, str]:
        """Return the environment of a command that a role runs."""
        return {
            **self.store, "DECISIONS_DATABASE_URL": self.database.url(role), "DECISIONS_S3_BUCKET": self.bucket.name,
            "DECISIONS_S3_PREFIX": self.bucket.prefix, "DECISIONS_S3_ENDPOINT_URL": self.store["AWS_ENDPOINT_URL"],
        }  # fmt: skip

    def log(self, number: int = 1) -> Log:
        return Log(self.writer, UUID(int=number))

    def archive(self, now: datetime, months: int = 6, registry: Registry | None = None) -> None:
        archive(self.owner, self.bucket, self.bucket, months, now, registry)

    def verify(self, since: date | None = None, until: date | None = None) -> Verification:
        with psycopg.connect(self.database.url("reader"), autocommit=True) as reader:
            return verify(reader, self.bucket, self.bucket, since=since, until=until)

    def differences(self) -> list[str]:
        return [f"{found.kind}: {found.message}" for found in self.verify().findings.differences]

    def forget(self, applicant: str) -> None:
        """Do as the service does on request."""
        with psycopg.connect(self.database.url("service")) as service:
            deleted = service.execute("DELETE FROM decision_inputs WHERE applicant_id = %s", [applicant]).rowcount
            service.execute(
                "INSERT INTO forgettings (salt, applicant_hash, requested_by, decisions) VALUES (%s, %s, 'p', %s)",
                [b"salt", applicant_hash(b"salt", applicant), deleted],
            )

    def table(self, key: str) -> pa.Table:
        """Return a file of the archive."""
        return pq.read_table(pa.BufferReader(self.bucket.read(key)))

    def edit(self, key: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """Replace a file of the archive by one with other rows."""
        table, out = self.table(key), io.BytesIO()
        pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), out)
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=f"stack/{key}", Body=out.getvalue())
