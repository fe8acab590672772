"""A real Postgres with the decision log's schema and roles, decisions to read, and clients with keys."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from psycopg.types.json import Json
from sqlalchemy import create_engine

from conftest import REPOSITORY
from decisions.database.id_ranges import first_id
from decisions.database.migrate import let_the_checker_read
from decisions.service.app import create_app, create_service
from decisions.service.endpoints.common import Service
from decisions.settings import Permission, ServeSettings
from postgres import Postgres

MIGRATIONS = REPOSITORY / "images/decisions/src/decisions/database/migrations/versions"
ROLES = ("decisions_owner", "decisions_writer", "decisions_reader", "decisions_service", "decisions_checker")
PASSWORD = "secret"
ALL: tuple[Permission, ...] = (
    "decisions:read", "decisions:forget", "decisions:replay", "decisions:check", "drift:read", "outcomes:write",
    "timeline:write",
)  # fmt: skip
# All permissions, one each, and none.
CLIENTS: dict[str, tuple[Permission, ...]] = {
    "all": ALL,
    "auditor": ("decisions:read",),
    "privacy": ("decisions:forget",),
    "validator": ("decisions:replay",),
    "monitor": ("drift:read",),
    "servicer": ("outcomes:write",),
    "operator": ("decisions:check", "drift:read", "timeline:write"),
    "stranger": (),
}
MONTHS = [datetime(year, month, 1, tzinfo=UTC) for year in (2025, 2026) for month in range(1, 13)]
CONTRACT = (
    b'{"features": [{"name": "income", "kind": "numeric"}, '
    b'{"name": "purpose", "kind": "categorical", "categories": ["Car", "Home"]}]}'
)


def key_of(client: str) -> dict[str, str]:
    return {"Authorization": f"Bearer k-{client}"}


def create_database(server: Postgres) -> None:
    """Create database and roles, and migrate it as its owner does."""
    server.sql("CREATE DATABASE decisions")
    for role in ROLES:
        server.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    server.sql("GRANT ALL ON DATABASE decisions TO decisions_owner; GRANT ALL ON SCHEMA public TO decisions_owner",
               "decisions")  # fmt: skip
    engine = create_engine(url_of(server, "decisions_owner").replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for file in sorted(MIGRATIONS.glob("0*.py")):
            spec = importlib.util.spec_from_file_location(file.stem, file)
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.upgrade()
    engine.dispose()
    with psycopg.connect(url_of(server, "decisions_owner"), autocommit=True) as owner:
        for start, end in itertools.pairwise(MONTHS):
            for table in ("decisions", "decision_inputs"):
                partition = (
                    f"CREATE TABLE {table}_{start:%Y_%m} PARTITION OF {table} "
                    f"FOR VALUES FROM ('{first_id(start)}') TO ('{first_id(end)}')"
                )
                owner.execute(partition.encode())
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO decisions_reader, decisions_service")
        owner.execute("GRANT DELETE ON decision_inputs TO decisions_service")
        let_the_checker_read(owner)


def url_of(server: Postgres, role: str) -> str:
    return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{server.port}/decisions"


def settings_of(*, keys: Path, **values: Any) -> ServeSettings:
    """Return settings with all clients, whose keys are written to a folder."""
    keys.mkdir(exist_ok=True)
    for client in CLIENTS:
        (keys / client).write_text(hashlib.sha256(f"k-{client}".encode()).hexdigest() + "\n")
    permissions = {
        permission: frozenset(client for client, granted in CLIENTS.items() if permission in granted)
        for permission in ALL
    }
    return ServeSettings(**{"access_dir": keys, "permissions": permissions, **values})


@dataclass
class Site:
    """The database, and how to put decisions into it."""

    server: Postgres
    folder: Path
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _versions: dict[str, UUID] = field(default_factory=dict)

    def settings(self, **changes: Any) -> ServeSettings:
        password = self.folder / "checker"
        password.write_text(PASSWORD)
        values = {"database_url": url_of(self.server, "decisions_service"), "checker_password_file": password,
                  **changes}  # fmt: skip
        return settings_of(keys=self.folder / "keys", **values)

    def sql(self, statement: str, *parameters: object) -> list[Any]:
        """Run a statement as a superuser and return its rows."""
        address = f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{self.server.port}/decisions"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def wait_for_lock(self, table: str) -> None:
        """Wait until a session holds a table for itself alone."""
        held = "SELECT 1 FROM pg_locks WHERE relation = %s::regclass AND mode = 'AccessExclusiveLock' AND granted"
        deadline = time.monotonic() + 30
        while not self.sql(held, table):
            assert time.monotonic() < deadline, f"nobody locks {table}"
            time.sleep(0.02)

    def clear(self) -> None:
        self.sql(
            "TRUNCATE decisions, decision_inputs, outcomes, timeline_events, forgettings, model_versions, drift_reports"
        )
        self._versions.clear()

    def version(self, number: str, contract: bytes = CONTRACT) -> UUID:
        if number not in self._versions:
            self._versions[number] = UUID(int=int(number))
            values = (self._versions[number], number, Json({"model.onnx": "ab" * 32}), contract)
            self.sql("INSERT INTO model_versions VALUES (%s, 'credit-risk', %s, %s, %s)", *values)
        return self._versions[number]

    def decide(
        self,
        at: datetime,
        *,
        applicant_id: str | None = "a-1",
        inputs: dict[str, Any] | None = None,
        version: str = "7",
        **columns: Any,
    ) -> UUID:
        """Insert a decision and return its id."""
        number = next(self._number)
        decision_id = UUID(int=first_id(at).int | 7 << 76 | 2 << 62 | number)
        values = {
            "id": decision_id, "request_id": f"r-{number}", "row": 0, "endpoint": "score", "role": "champion",
            "client": "lender", "model_version": self.version(version), "probability": 0.137, "points": 540,
            "decision": "approve", "grade": None, "reasons": None, "latency_us": 900, "pod": "scoring-0",
            "log_id": UUID(int=1), "sequence": number + 1, "inputs_hash": number.to_bytes(32, "big"),
            "previous_hash": bytes(32), "hash": b"\1" * 32, **columns,
        }  # fmt: skip
        names, places = ", ".join(f'"{name}"' for name in values), ", ".join(["%s"] * len(values))
        self.sql(f"INSERT INTO decisions ({names}) VALUES ({places})", *values.values())
        self.sql("INSERT INTO decision_inputs VALUES (%s, %s, %s, %s)", decision_id, applicant_id, bytes(16),
                 Json({"income": 46995.17, "purpose": "Car"} if inputs is None else inputs))  # fmt: skip
        return decision_id


@dataclass(frozen=True)
class Running:
    """A service that answers in this process."""

    service: Service
    http: httpx.AsyncClient

    async def get(self, path: str, client: str = "all", **parameters: Any) -> httpx.Response:
        return await self.http.get(path, params=parameters, headers=key_of(client))

    async def report(self, body: Any, kind: str = "application/json", client: str = "servicer") -> httpx.Response:
        """Send outcomes."""
        headers = {**key_of(client), "Content-Type": kind}
        if isinstance(body, bytes | str):
            return await self.http.post("/v1/outcomes", content=body, headers=headers)
        return await self.http.post("/v1/outcomes", json=body, headers=headers)


async def start(settings: ServeSettings) -> Running:
    service = create_service(settings)
    await service.database.open()
    transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
    return Running(service, httpx.AsyncClient(transport=transport, base_url="http://decisions"))


async def stop(running: Running) -> None:
    await running.http.aclose()
    await running.service.close()


def environment(settings: ServeSettings) -> dict[str, str]:
    """Return the settings as a process gets them."""
    permissions = {name: sorted(clients) for name, clients in settings.permissions.items()}
    optional = {"CHECKER_PASSWORD_FILE": settings.checker_password_file, "S3_BUCKET": settings.s3_bucket,
                "S3_ENDPOINT_URL": settings.s3_endpoint_url, "MLFLOW_URL": settings.mlflow_url}  # fmt: skip
    return {
        **os.environ,
        **{f"DECISIONS_{name}": str(value) for name, value in optional.items() if value},
        "DECISIONS_DATABASE_URL": settings.database_url,
        "DECISIONS_ACCESS_DIR": str(settings.access_dir),
        "DECISIONS_PERMISSIONS": str(permissions).replace("'", '"'),
    }
