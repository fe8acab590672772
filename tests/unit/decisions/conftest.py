"""One Postgres for all tests of a process; each test that uses the database begins with an empty one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unit.decisions.decisions_database import DecisionsDatabase, decisions_database


@pytest.fixture(scope="session")
def server() -> Iterator[DecisionsDatabase]:
    with decisions_database() as database:
        yield database


@pytest.fixture
def database(server: DecisionsDatabase) -> DecisionsDatabase:
    server.clear()
    return server
