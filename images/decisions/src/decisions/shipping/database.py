"""Postgres as the shipper uses it: one transaction for each batch."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from uuid import UUID

import msgspec
import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from decisions.errors import DecisionsError, UsageError
from decisions.records.build import Link
from decisions.records.model_versions import ModelVersion
from decisions.records.record import ChainedRecord

logger = logging.getLogger(__name__)
# Of one COPY: bounds the memory of a batch, whatever the size of its groups.
_CHUNK = 2_000
# What a URL leaves open. The two last ones end a connection to a server that no longer answers.
_CONNECTION = {
    "connect_timeout": "5", "application_name": "decisions-ship", "target_session_attrs": "read-write",
    "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "20000",
}  # fmt: skip
_VERSION = "INSERT INTO model_versions (id, name, version, digests, contract) VALUES (%s, %s, %s, %s, %s) " \
           "ON CONFLICT DO NOTHING"  # fmt: skip
_DECISIONS = (
    'COPY decisions (id, request_id, "row", endpoint, role, client, model_version, probability, points, decision, '
    "grade, reasons, latency_us, pod, log_id, sequence, inputs_hash, previous_hash, hash) FROM STDIN"
)
_INPUTS = "COPY decision_inputs (id, applicant_id, salt, inputs) FROM STDIN"
# One of the shippers that see a log writes to it at a time, whether or not they share locks on its folder.
_LOCK = "SELECT pg_advisory_xact_lock(%s)"


class AwayError(DecisionsError):
    """Postgres cannot take the batch now, and may later; `cause` is a label for metrics."""

    def __init__(self, cause: str, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.cause = cause


class RefusedError(DecisionsError):
    """Postgres does not take these very records."""


class RecordedError(DecisionsError):
    """A record with one of the ids is there already."""


class OutOfStepError(DecisionsError):
    """The database has a later record of the log than the shipper knows: `head`."""

    def __init__(self, head: Link) -> None:
        """Take where the log has arrived in the database."""
        super().__init__(f"the database has the log's record {head.sequence}")
        self.head = head


class Database:
    """A connection that is made when it is needed, and made again after a failure.

    Its methods raise AwayError if Postgres cannot be reached or cannot write now.
    """

    def __init__(self, conninfo: Callable[[], str]) -> None:
        """Take what returns the URL and the password whenever a connection is made."""
        self._conninfo = conninfo
        self._connection: psycopg.Connection | None = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """Break the connection off, from another thread: what waits for it fails with AwayError."""
        if (connection := self._connection) is None:
            return
        with contextlib.suppress(OSError, psycopg.Error):
            # A descriptor of its own, so that none is closed under libpq's hands.
            duplicate = socket.socket(fileno=os.dup(connection.fileno()))
            with duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)

    def recorded(self, ids: Sequence[bytes]) -> set[bytes]:
        """Return those of the ids that decisions in the database have."""
        with self._errors() as connection:
            rows = connection.execute("SELECT decisions_recorded(%s)", [[UUID(bytes=id_) for id_ in ids]]).fetchall()
        return {row[0].bytes for row in rows}

    def ship(
        self, log_id: UUID, link: Link, versions: Iterable[ModelVersion], records: Iterator[ChainedRecord]
    ) -> Link:
        """Write records that follow `link` in their log, all or none, and return where the log has arrived.

        Raises:
            OutOfStepError: The database has other records of the log after `link`.
            RecordedError: One of the ids is there already.
            RefusedError: Postgres does not take one of the records.
        """
        with self._errors() as connection, connection.transaction():
            connection.execute(_LOCK, [int.from_bytes(log_id.bytes[:8], "big", signed=True)])
            head = _head(connection, log_id)
            if head.sequence > link.sequence or (head.sequence == link.sequence and head != link):
                raise OutOfStepError(head)
            if head.sequence < link.sequence:
                logger.warning("log %s: Postgres has its records up to %d, and had those up to %d; the log goes on",
                               log_id, head.sequence, link.sequence)  # fmt: skip
            for version in versions:
                digests = msgspec.json.encode(version.digests).decode()
                connection.execute(
                    _VERSION, [version.id, version.name, version.version, digests, version.contract]
                )  # fmt: skip
            while chunk := _copy(connection, islice(records, _CHUNK)):
                link = Link(chunk[-1].record.sequence, chunk[-1].hash)
        return link

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            try:
                conninfo = self._conninfo()
            except UsageError as error:
                raise AwayError("password", str(error)) from error
            given = conninfo_to_dict(conninfo)
            missing = {name: value for name, value in _CONNECTION.items() if name not in given}
            self._connection = psycopg.connect(make_conninfo(conninfo, **missing), autocommit=True)
        return self._connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[psycopg.Connection]:
        try:
            yield self._connected()
        except errors.UniqueViolation as error:
            raise RecordedError(_words(error)) from error
        except psycopg.Error as error:
            if failure := _away(error):
                # A server that is read-only now may be a former primary: the next connection looks for the new one.
                self.close()
                raise failure from error
            raise RefusedError(_words(error)) from error


def _head(connection: psycopg.Connection, log_id: UUID) -> Link:
    row = connection.execute("SELECT sequence, hash FROM decisions_log_head(%s)", [log_id]).fetchone()
    return Link(row[0], bytes(row[1])) if row else Link()


def _copy(connection: psycopg.Connection, records: Iterator[ChainedRecord]) -> list[ChainedRecord]:
    """Write records and return them; while the next one is made, Postgres takes those before it."""
    cursor = connection.cursor()
    written: list[ChainedRecord] = []
    with cursor.copy(_DECISIONS) as copy:
        for chained in records:
            *columns, inputs_hash = msgspec.structs.astuple(chained.record)
            copy.write_row((*columns, bytes.fromhex(inputs_hash), chained.previous_hash, chained.hash))
            written.append(chained)
    if written:
        with cursor.copy(_INPUTS) as copy:
            for chained in written:
                inputs = chained.inputs
                copy.write_row((chained.record.id, inputs.applicant_id, inputs.salt, inputs.inputs))
    return written


def _away(error: psycopg.Error) -> AwayError | None:
    """Return what is wrong with the database in words, or None if these records alone are."""
    words = _words(error)
    if isinstance(error, errors.CheckViolation):
        if "no partition" not in words:
            return None
        return AwayError("partition", f"no partition takes a decision of that time; `python -m decisions migrate` "
                                      f"makes those of the months around now: {words}")  # fmt: skip
    causes: list[tuple[type[psycopg.Error] | tuple[type[psycopg.Error], ...], str, str]] = [
        (errors.ReadOnlySqlTransaction, "read-only", "Postgres accepts no writes now"),
        (errors.InsufficientPrivilege, "permission", "the role may not write; it needs what `python -m decisions "
                                                     "migrate` grants to decisions_writer"),
        (errors.DiskFull, "disk-full", "the disk of Postgres is full"),
        ((errors.QueryCanceled, errors.LockNotAvailable), "timeout", "Postgres took longer than it may"),
        ((errors.UndefinedTable, errors.UndefinedFunction, errors.UndefinedColumn, errors.InvalidSchemaName), "schema",
         "the database lacks a table or a function; `python -m decisions migrate` creates them"),
        ((errors.DataError, errors.IntegrityError), "", ""),
        (psycopg.OperationalError, "unreachable", "Postgres cannot be reached"),
    ]  # fmt: skip
    for kinds, cause, message in causes:
        if isinstance(error, kinds):
            return AwayError(cause, f"{message}: {words}") if cause else None
    return AwayError("error", f"Postgres failed: {words}")


def _words(error: psycopg.Error) -> str:
    """Return the error's message in one line, without the values of the row that it is about."""
    return " ".join((error.diag.message_primary or str(error)).split())
