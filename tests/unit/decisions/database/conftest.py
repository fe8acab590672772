"""One Postgres for all tests of a process; each gets a database that does not exist yet, or one that is migrated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres import Postgres
from unit.decisions.migrated import Migrated, postgres_server, with_passwords


@pytest.fixture(scope="session")
def empty_server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def absent(empty_server: Postgres, tmp_path: Path) -> Iterator[Migrated]:
    database = with_passwords(empty_server, tmp_path)
    database.drop()
    yield database
    database.drop()


@pytest.fixture
def database(absent: Migrated) -> Migrated:
    absent.migrate()
    return absent
