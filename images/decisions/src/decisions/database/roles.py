"""The database and its roles, created by an administrator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from decisions.errors import UsageError

OWNER = "decisions_owner"
ROLES = (OWNER, "decisions_writer", "decisions_reader", "decisions_service")
# Runs the SQL of ModelPromotions, and exists only where that is allowed.
CHECKER = "decisions_checker"
# Of two Jobs that run at once, one waits for the other. Any number that nothing else on the server uses.
LOCK = 0x6465636973696F6E


def read_passwords(folder: Path) -> dict[str, str]:
    """Return each role's password from the file that is named like the role without `decisions_`.

    The role that checks is left out if it has no file.

    Raises:
        UsageError: A file cannot be read or is empty.
    """
    passwords = {}
    for role in (*ROLES, CHECKER):
        file = folder / role.removeprefix("decisions_")
        if role == CHECKER and not file.exists():
            continue
        try:
            passwords[role] = file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"DECISIONS_ROLE_PASSWORDS_DIR: cannot read the password of {role}: {error}") from error
        if not passwords[role]:
            raise UsageError(f"DECISIONS_ROLE_PASSWORDS_DIR: {file} is empty; it must hold the password of {role}")
    return passwords


def create_database(admin_url: str, database: str, passwords: Mapping[str, str]) -> list[str]:
    """Create what is missing of the database and its roles, and set the roles' passwords; return what was done."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        done = _create_roles(connection, passwords)
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchall():
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(database), sql.Identifier(OWNER)
                )
            )
            done.append(f"created the database {database}")
        name, roles = sql.Identifier(database), sql.SQL(", ").join(map(sql.Identifier, passwords))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, roles))
        with psycopg.connect(make_conninfo(admin_url, dbname=database), autocommit=True) as inside:
            # What Postgres before 15 lets everybody do.
            inside.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            inside.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(OWNER)))
    return done


def _create_roles(connection: psycopg.Connection, passwords: Mapping[str, str]) -> list[str]:
    done = []
    existing = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
    for role in passwords:
        name = sql.Identifier(role)
        if role not in existing:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEDB NOCREATEROLE").format(name))
            done.append(f"created the role {role}")
        # As a verifier, so that the password itself is in no log of the server.
        verifier = connection.pgconn.encrypt_password(passwords[role].encode(), role.encode(), b"scram-sha-256")
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(verifier.decode())))
    if CHECKER in passwords:
        # What it runs is others', so it cannot use up the connections.
        connection.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 4").format(sql.Identifier(CHECKER)))
    if connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,):
        # Without being a member, an administrator who is no superuser can create nothing that belongs to the role.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(OWNER)))
    return done
