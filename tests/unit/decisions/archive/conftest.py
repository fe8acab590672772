"""One Postgres and one S3 store for all tests of a process; each test has a database and a bucket of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres import Postgres
from s3_store import s3_client, seaweedfs
from unit.decisions.archive.site import Site
from unit.decisions.migrated import postgres_server, with_passwords

_buckets = itertools.count()


@pytest.fixture(scope="session")
def archive_server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as variables:
        yield variables


@pytest.fixture
def site(archive_server: Postgres, store: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    database = with_passwords(archive_server, tmp_path)
    database.drop()
    client, name = s3_client(store), f"decisions-{next(_buckets)}"
    client.create_bucket(Bucket=name)
    with Site.of(database, client, name, store) as found:
        yield found
    database.drop()
