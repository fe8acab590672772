"""The decision log's database on a real server, with the role of the shipper."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg.rows import namedtuple_row

from conftest import REPOSITORY
from postgres import Postgres
from unit.decisions.migrated import postgres_server

MIGRATIONS = REPOSITORY / "images/decisions/src/decisions/database/migrations/versions"
ROLES = """
CREATE ROLE decisions_writer LOGIN PASSWORD 'writer';
CREATE ROLE decisions_reader;
CREATE ROLE decisions_service;
"""


@dataclass(frozen=True)
class DecisionsDatabase:
    """A server's database `decisions`."""

    server: Postgres

    @property
    def url(self) -> str:
        """As the shipper's role reaches it."""
        return f"postgresql://decisions_writer:writer@127.0.0.1:{self.server.port}/decisions"

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection of a superuser."""
        return psycopg.connect(
            host="127.0.0.1", port=self.server.port, user="mlflow", password="secret", dbname="decisions",
            autocommit=True,
        )  # fmt: skip

    def create(self) -> None:
        """Create the database, its tables and the role."""
        self.server.sql("CREATE DATABASE decisions")
        with self.connect() as connection:
            connection.execute(ROLES)
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=self.connect)
        with engine.begin() as transaction, Operations.context(MigrationContext.configure(transaction)):
            _migration("0001_decisions").upgrade()
        engine.dispose()

    def clear(self) -> None:
        """Remove all records."""
        with self.connect() as connection:
            connection.execute("TRUNCATE decisions, decision_inputs, model_versions")

    def records(self) -> list[Any]:
        """Return all records, log by log, in the order of each log."""
        with self.connect() as connection:
            cursor = connection.cursor(row_factory=namedtuple_row)
            return list(
                cursor.execute("SELECT * FROM decisions JOIN decision_inputs USING (id) ORDER BY log_id, sequence")
            )

    def count(self, table: str = "decisions") -> int:
        with self.connect() as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()[0]
        return int(count)


@contextmanager
def decisions_database() -> Iterator[DecisionsDatabase]:
    """Run a server with the database."""
    with postgres_server() as server:
        database = DecisionsDatabase(server)
        database.create()
        yield database


def _migration(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, MIGRATIONS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
