"""One Postgres for all tests of a process; each test that uses the database begins with an empty one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from environments import postgres_programs
from postgres import Postgres
from unit.decisions.decisions_database import DecisionsDatabase


@pytest.fixture(scope="session")
def server() -> Iterator[DecisionsDatabase]:
    # Not in pytest's own folder, which is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="postgres-") as base:
        Path(base).chmod(0o755)
        server = Postgres(Path(base) / "server", postgres_programs(Path(base) / "programs"))
        server.start()
        database = DecisionsDatabase(server)
        database.create()
        yield database
        server.stop()


@pytest.fixture
def database(server: DecisionsDatabase) -> DecisionsDatabase:
    server.clear()
    return server
