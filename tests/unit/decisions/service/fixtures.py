"""One Postgres for all tests of a process that import these; each test begins with empty tables."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from environments import postgres_programs
from postgres import Postgres
from unit.decisions.service.site import Running, Site, create_database, start, stop


@pytest.fixture(scope="session")
def decisions_server() -> Iterator[Postgres]:
    # Not in pytest's own folder, which is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="postgres-") as base:
        Path(base).chmod(0o755)
        server = Postgres(Path(base) / "server", postgres_programs(Path(base) / "programs"))
        server.start()
        create_database(server)
        yield server
        server.stop()


@pytest.fixture
def site(decisions_server: Postgres, tmp_path: Path) -> Site:
    found = Site(decisions_server, tmp_path)
    found.clear()
    return found


@pytest.fixture
async def running(site: Site) -> AsyncIterator[Running]:
    started = await start(site.settings())
    yield started
    await stop(started)
