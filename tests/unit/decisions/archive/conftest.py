"""One Postgres and one S3 store for all tests of a process; each test has a database and a bucket of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from s3_store import s3_client
from unit.decisions.archive.site import MAY, Site
from unit.decisions.migrated import Migrated, postgres_server, with_passwords
from unit.decisions.servers import store

__all__ = ["client", "empty", "site", "store"]
_buckets = itertools.count()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    """A database that was migrated once, and is copied for each test."""
    with postgres_server() as server:
        database = with_passwords(server, tmp_path_factory.mktemp("passwords"), "decisions_empty")
        database.migrate(MAY)
        yield database


@pytest.fixture(scope="session")
def client(store: dict[str, str]) -> Any:
    return s3_client(store)


@pytest.fixture
def site(empty: Migrated, store: dict[str, str], client: Any) -> Iterator[Site]:
    database, name = empty.copy("decisions"), f"decisions-{next(_buckets)}"
    client.create_bucket(Bucket=name)
    with Site.of(database, client, name, store) as found:
        yield found
    database.drop()
