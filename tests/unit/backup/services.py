"""What a backup works on, for real and on loopback: Postgres, SeaweedFS, and an MLflow server over both."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlflow import MlflowClient

from backup.__main__ import main
from backup.repository import decisions_folder
from conftest import REPOSITORY
from mlflow_server import MLFLOW_IMAGE
from postgres import Postgres
from processes import free_port, running
from s3_store import s3_client

SCRIPTS = REPOSITORY / "charts" / "backup" / "files"
PROBE = REPOSITORY / "charts" / "mlflow" / "files" / "ready.py"
ARTIFACTS = "mlflow"
BACKUPS = "backups"
PREFIX = "credit-risk"
# The chart's settings of the server.
SERVER_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}


@dataclass(frozen=True)
class TrackingServer:
    """A running MLflow server: its address, and the id of the session that its processes are in."""

    url: str
    session: int

    def memory_bytes(self) -> int:
        """Return the memory of all its processes, with what they share counted once."""
        total = 0
        for folder in Path("/proc").glob("[0-9]*"):
            # Processes end meanwhile.
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == self.session:
                    rollup = (folder / "smaps_rollup").read_text()
                    total += int(rollup.partition("\nPss:")[2].split()[0]) * 1024
        return total


@contextmanager
def mlflow_server(
    folder: Path,
    postgres: Postgres,
    store: Mapping[str, str],
    *,
    workers: int = 1,
    settings: Mapping[str, str] = MappingProxyType(SERVER_ENVIRONMENT),
) -> Iterator[TrackingServer]:
    """Run the tracking server as the chart does, or with other settings."""
    environment = {**postgres.environment, **store, "MLFLOW_READ_REPLICA_BACKEND_STORE_URI": postgres.uri_for_reading,
                   "PYTHONPATH": str(MLFLOW_IMAGE), **settings}  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", postgres.uri],
        env={**os.environ, **environment}, check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", f"--workers={workers}",
               "--serve-artifacts", f"--artifacts-destination=s3://{ARTIFACTS}",
               f"--backend-store-uri={postgres.uri}"]  # fmt: skip
    with running(command, folder / "mlflow.log", lambda: _is_ready(port), **environment) as session:
        yield TrackingServer(url, session)


def _is_ready(port: int) -> bool:
    """Return what the chart's readiness probe finds."""
    probe = PROBE.read_text(encoding="utf-8").replace("127.0.0.1:5000", f"127.0.0.1:{port}")
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


@dataclass
class Site:
    """The stack's data and a workspace, and the Jobs' containers run on them."""

    postgres: Postgres
    store: dict[str, str]
    workspace: Path
    client: MlflowClient
    options: dict[str, str] = field(default_factory=dict)
    # How the decision log's database is reached as its owner, if there is one.
    decisions: dict[str, str] = field(default_factory=dict)

    @property
    def s3(self) -> Any:
        return s3_client(self.store)

    @property
    def environment(self) -> dict[str, str]:
        """What the chart gives to the containers."""
        return {
            **self.postgres.environment,
            **self.store,
            "MLFLOW_BACKEND_STORE_URI": self.postgres.uri,
            "WORKSPACE": str(self.workspace),
            "BACKUP_ARTIFACT_BUCKET": ARTIFACTS,
            "BACKUP_BUCKET": BACKUPS,
            "BACKUP_PREFIX": PREFIX,
            **self.options,
        }

    def script(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts of the Postgres image's containers."""
        command = ["sh", str(SCRIPTS / name)]
        environment = {**os.environ, **self.environment}
        if name.endswith("-decisions.sh"):
            own = {"PGPASSWORD": "", "PGDATABASE": "decisions", "WORKSPACE": str(decisions_folder(self.workspace))}
            environment |= {**own, "PGUSER": "decisions_owner", **self.decisions}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def run(self, *arguments: str, **options: str) -> int:
        """Run a command of the MLflow image's containers and return its exit code."""
        return main(arguments, self.environment | options)

    def back_up(self, **options: str) -> str:
        """Run a backup Job's containers and return the backup's id."""
        for name in ("dump.sh", "dump-decisions.sh"):
            dumped = self.script(name)
            assert dumped.returncode == 0, dumped.stderr
        assert self.run("store", **options) == 0
        return self.ids()[-1]

    def restore(self, wanted: str = "latest") -> None:
        """Run a restore Job's containers."""
        assert self.run("fetch", "--from", wanted) == 0
        for name in ("restore-decisions.sh", "restore.sh"):
            restored = self.script(name)
            assert restored.returncode == 0, restored.stderr
        assert self.run("verify") == 0

    def ids(self) -> list[str]:
        keys = self.keys(BACKUPS, f"{PREFIX}/backups/")
        return sorted(key.split("/")[-2] for key in keys if key.endswith("manifest.json"))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def contents(self, bucket: str) -> dict[str, bytes]:
        return {key: self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in self.keys(bucket)}

    def empty_bucket(self, bucket: str = ARTIFACTS) -> None:
        for key in self.keys(bucket):
            self.s3.delete_object(Bucket=bucket, Key=key)
