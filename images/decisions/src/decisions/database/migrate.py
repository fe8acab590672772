"""`python -m decisions migrate`: creates or upgrades the database, and makes partitions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import NullPool, create_engine

from decisions.database.partitions import make_partitions
from decisions.database.roles import CHECKER, LOCK, ROLES, create_database, read_passwords
from decisions.errors import DecisionsError, UsageError
from decisions.settings import MigrateSettings

_SCRIPTS = Path(__file__).with_name("migrations")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions migrate", description="Creates or upgrades the database, and makes partitions."
    )
    parser.add_argument("--sql", action="store_true", help="only print the SQL of all migrations")
    if parser.parse_args(arguments).sql:
        command.upgrade(_alembic(), "head", sql=True)
        return 0
    settings = MigrateSettings()
    try:
        for line in migrate(settings, datetime.now(UTC)):
            sys.stdout.write(f"{line}\n")
    except psycopg.Error as error:
        raise DecisionsError(f"migrate: {' '.join(str(error).split())}") from error
    return 0


def migrate(settings: MigrateSettings, now: datetime) -> list[str]:
    """Bring the database to the newest revision, and return what was done.

    Of two that run at once, the second waits for the first, and finds everything done.

    Raises:
        DecisionsError: The roles do not exist.
        UsageError: The settings do not fit together.
    """
    conninfo = settings.conninfo()
    done = _as_administrator(settings)
    with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        _check_roles(connection)
        before, after = _upgrade(conninfo)
        done.append(f"migrated from {before} to {after}" if before != after else f"the schema is at {after}")
        let_the_checker_read(connection)
        made = make_partitions(connection, now)
    return [*done, f"made {', '.join(made)}" if made else "all partitions are there"]


def _as_administrator(settings: MigrateSettings) -> list[str]:
    if settings.admin_url is None:
        return []
    if settings.role_passwords_dir is None:
        raise UsageError("DECISIONS_ROLE_PASSWORDS_DIR must be set with DECISIONS_ADMIN_URL: the folder of the files "
                         "owner, writer, reader and service with the roles' passwords")  # fmt: skip
    database = conninfo_to_dict(settings.database_url).get("dbname")
    if not database:
        raise UsageError("DECISIONS_DATABASE_URL must name the database to create, such as .../decisions")
    return create_database(settings.admin_url, str(database), read_passwords(settings.role_passwords_dir))


def _check_roles(connection: psycopg.Connection) -> None:
    rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [list(ROLES)]).fetchall()
    if missing := sorted(set(ROLES) - {name for (name,) in rows}):
        raise DecisionsError(f"the database has no role {', '.join(missing)}; create it, or set DECISIONS_ADMIN_URL")


def let_the_checker_read(connection: psycopg.Connection) -> None:
    """Grant what a role needs that may have been created after the migration that made the views."""
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [CHECKER]).fetchall():
        connection.execute(f"GRANT SELECT ON check_decisions, check_outcomes TO {CHECKER}".encode())
        connection.execute(f"GRANT EXECUTE ON FUNCTION check_first_id(timestamptz) TO {CHECKER}".encode())


def _upgrade(conninfo: str) -> tuple[str, str]:
    """Run the migrations that are missing, in one transaction; return the revisions before and after."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool)
    with engine.begin() as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = MigrationContext.configure(connection).get_current_revision()
    return before or "an empty database", str(after)


def _alembic() -> Config:
    config = Config(stdout=sys.stdout)
    # A % would be taken as the start of a reference.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
