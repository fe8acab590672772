"""Each test has a database, a bucket and a registry of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from decisions.archive.bucket import Bucket
from s3_store import s3_client
from scorer.model.bundle import Model
from unit.decisions.migrated import Migrated, postgres_server, with_passwords
from unit.decisions.replay.chain import Chain, load_version, write_version
from unit.decisions.replay.registry import MlflowServer, mlflow_of_files
from unit.decisions.servers import store

__all__ = ["chain", "empty_now", "registry", "store", "version", "version_folder"]
_buckets = itertools.count()


@pytest.fixture(scope="session")
def empty_now(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    """A database that was migrated once, with partitions for now, and is copied for each test."""
    with postgres_server() as server:
        database = with_passwords(server, tmp_path_factory.mktemp("passwords"), "decisions_now")
        database.migrate(datetime.now(UTC))
        yield database


@pytest.fixture(scope="session")
def version_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_version(tmp_path_factory.mktemp("version"))


@pytest.fixture(scope="session")
def version(version_folder: Path) -> Model:
    return load_version(version_folder)


@pytest.fixture
def registry(version_folder: Path) -> Iterator[MlflowServer]:
    """A registry that has the files of version 7."""
    with mlflow_of_files() as found:
        found.files = {("7", name): (version_folder / name).read_bytes() for name in ("model.onnx", "contract.json")}
        yield found


@pytest.fixture
async def chain(
    empty_now: Migrated,
    store: dict[str, str],
    registry: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Chain]:
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    database, client, name = empty_now.copy("replays"), s3_client(store), f"replay-{next(_buckets)}"
    client.create_bucket(Bucket=name)
    bucket = Bucket(name, "decisions", client)
    found = Chain(database, bucket, store["AWS_ENDPOINT_URL"], tmp_path, registry.url)
    yield found
    await found.close()
    database.drop()
