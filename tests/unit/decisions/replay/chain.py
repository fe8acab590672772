"""All that a decision passes through: the scoring service's log, shipper, archive, and decisions service."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg

from decisions.archive.bucket import Bucket
from decisions.archive.command import archive
from decisions.archive.registry import Registry
from decisions.settings import ServeSettings
from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.decisions.migrated import Migrated
from unit.decisions.service.site import Running, key_of, settings_of, start, stop
from unit.decisions.shipping.running import Running as RunningShipper
from unit.scorer.decision_segments import POD, decision_log
from unit.scorer.graded_model import GRADED_CONTRACT
from unit.scorer.missing_model import FEATURES, REFERENCE, write_model

# Categories that are numbers and booleans, too.
CATEGORIES = {"home": ["1", "2"], "region": ["True", "False"], "employer": ["-2.5", "10"]}
APPLICANT: dict[str, Any] = {**REFERENCE, "home": "2", "region": "False", "employer": "10", "bureau_score": 433.3}


def write_version(folder: Path) -> Path:
    """Write the files of a version, in which everything may be missing or other that can be."""
    features = [
        {**feature, "monotonic": None, "adverse_action": ""}
        | ({"categories": CATEGORIES[feature["name"]]} if feature["name"] in CATEGORIES else {})
        for feature in FEATURES
    ]
    reference = {**REFERENCE, **{name: words[0] for name, words in CATEGORIES.items()}}
    return write_model(folder, **{**GRADED_CONTRACT, "features": features, "reference_applicant": reference})


def load_version(folder: Path, number: str = "7") -> Model:
    digests = {name: digest_of(folder / name) for name in ("model.onnx", "contract.json")}
    return load_model(folder, Identity("credit-risk", number, "run", digests, {}))


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass
class Chain:
    """Where decisions go, and how they get there."""

    database: Migrated
    bucket: Bucket
    endpoint: str
    folder: Path
    registry_url: str | None = None
    _services: list[Running] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def scoring(self, model: Model) -> AsyncIterator[httpx.AsyncClient]:
        """Run the scoring service with its decision log; at its end, ship all decisions."""
        logs = self.folder / "logs"
        metrics = Metrics()
        async with decision_log(logs, registry=metrics.registry) as running:
            app = create_app(Settings(pod_name=POD), ModelSlot(model), metrics, decisions=running.log)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
                yield http
        shipper = RunningShipper(logs, self.database.url("writer"), POD)
        shipper.turn()
        shipper.stop()
        assert not list(logs.glob("*/*/*.sqlite"))

    async def decide(self, model: Model, rows: Sequence[dict[str, Any]], reasons: int = 4) -> list[UUID]:
        """Score applications, and return the ids of the decisions once they are in the database."""
        found = []
        async with self.scoring(model) as http:
            for row in rows:
                answer = await http.post(f"/v1/score?reasons={reasons}", json=row)
                assert answer.status_code == 200, answer.text
                found.append(UUID(answer.json()["decision_id"]))
        return found

    def archive(self) -> None:
        """Do what is due today."""
        with psycopg.connect(self.database.url("owner"), autocommit=True) as owner:
            registry = Registry(self.registry_url) if self.registry_url else None
            archive(owner, self.bucket, self.bucket, 6, datetime.now(UTC), registry)

    def settings(self, **changes: Any) -> ServeSettings:
        values = {
            "database_url": self.database.url("service"), "s3_bucket": self.bucket.name,
            "s3_prefix": self.bucket.prefix, "s3_endpoint_url": self.endpoint, "mlflow_url": self.registry_url,
        }  # fmt: skip
        return settings_of(keys=self.folder / "keys", **{**values, **changes})

    async def serve(self, **changes: Any) -> Running:
        """Run a decisions service until the chain is closed."""
        self._services.append(await start(self.settings(**changes)))
        return self._services[-1]

    async def close(self) -> None:
        for service in self._services:
            await stop(service)
        self._services.clear()

    def ids(self) -> list[UUID]:
        return [found for (found,) in self.database.sql("SELECT id FROM decisions ORDER BY id")]


async def ask_again(service: Running, decision: UUID, client: str = "validator") -> httpx.Response:
    """Ask for a replay."""
    return await service.http.post(f"/v1/decisions/{decision}/replay", headers=key_of(client))


async def replayed(service: Running, decision: UUID) -> dict[str, Any]:
    answer = await ask_again(service, decision)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
