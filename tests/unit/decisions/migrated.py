"""A real Postgres with the decision log's database, as `migrate` makes it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from decisions.database.migrate import migrate
from decisions.database.roles import ROLES
from decisions.settings import MigrateSettings
from environments import postgres_programs
from postgres import Postgres

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    # Not in pytest's own folder, which is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="postgres-") as base:
        Path(base).chmod(0o755)
        server = Postgres(Path(base) / "server", postgres_programs(Path(base) / "programs"))
        server.start()
        yield server
        server.stop()


@dataclass(frozen=True)
class Migrated:
    """A database with its roles."""

    server: Postgres
    folder: Path
    name: str = "decisions"

    @property
    def settings(self) -> MigrateSettings:
        return MigrateSettings(
            database_url=f"postgresql://decisions_owner@127.0.0.1:{self.server.port}/{self.name}",
            database_password_file=self.folder / "owner",
            admin_url=f"postgresql://mlflow:secret@127.0.0.1:{self.server.port}/mlflow",
            role_passwords_dir=self.folder,
        )

    def url(self, role: str) -> str:
        password = (self.folder / role).read_text().strip()
        return f"postgresql://decisions_{role}:{password}@127.0.0.1:{self.server.port}/{self.name}"

    def migrate(self, now: datetime = NOW) -> list[str]:
        return migrate(self.settings, now)

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        """Run a statement as a superuser and return its rows."""
        address = f"postgresql://mlflow:secret@127.0.0.1:{self.server.port}/{self.name}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def copy(self, name: str) -> Migrated:
        """Return a copy under another name, as if it had been migrated; nobody is connected to this one."""
        self.server.sql(f"CREATE DATABASE {name} OWNER decisions_owner TEMPLATE {self.name}")
        return replace(self, name=name)

    def drop(self) -> None:
        self.server.sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")


def with_passwords(server: Postgres, folder: Path, name: str = "decisions") -> Migrated:
    """Return a database that does not exist yet, with passwords for its roles."""
    for role in ROLES:
        (folder / role.removeprefix("decisions_")).write_text(f"the password of {role}"[::-1].replace(" ", "-") + "\n")
    return Migrated(server, folder, name)
