"""One Postgres, one SeaweedFS and one MLflow server for all tests of a process; each test begins with empty buckets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from environments import postgres_programs
from postgres import Postgres
from s3_store import s3_client, seaweedfs
from unit.backup.services import ARTIFACTS, BACKUPS, Site, TrackingServer, mlflow_server


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        for bucket in (ARTIFACTS, BACKUPS):
            s3_client(variables).create_bucket(Bucket=bucket)
        yield variables


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    # Not in pytest's own folder, which is closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="postgres-") as base, pytest.MonkeyPatch.context() as patch:
        Path(base).chmod(0o755)
        server = Postgres(Path(base) / "server", postgres_programs(Path(base) / "programs"))
        server.start()
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, store: dict[str, str]
) -> Iterator[TrackingServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), postgres, store) as running:
        yield running


@pytest.fixture(scope="session")
def tracking(server: TrackingServer) -> MlflowClient:
    return MlflowClient(server.url)


@pytest.fixture
def site(postgres: Postgres, store: dict[str, str], tracking: MlflowClient, tmp_path: Path) -> Site:
    """The stack's data, with nothing in its buckets and no registered models."""
    found = Site(postgres, store, tmp_path / "workspace", tracking)
    found.workspace.mkdir()
    for bucket in (ARTIFACTS, BACKUPS):
        found.empty_bucket(bucket)
    postgres.sql("TRUNCATE registered_models CASCADE")
    return found
