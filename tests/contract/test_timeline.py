"""The operator's events become the right periods in the decisions service, over HTTP and a real Postgres."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from mlflow import MlflowClient

from mlflow_server import mlflow_server
from promoter.adapters.mlflow import MlflowRegistry
from promoter.adapters.timeline import HttpTimeline
from promoter.api.spec import ModelRef
from promoter.outbox import Outbox
from promoter.telemetry import Telemetry
from trainer.tracking.registry import Registry
from unit.decisions.service.fixtures import decisions_server, site
from unit.decisions.service.process import Process, running_process
from unit.decisions.service.site import Site, key_of
from unit.promoter.rollouts import Rollouts

__all__ = ["decisions_server", "site"]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as found:
        yield found


async def deliver(outbox: Outbox, events: int | None = None) -> None:
    """Deliver all that is taken, or some of it."""
    task, left = asyncio.create_task(outbox.run()), 0 if events is None else max(0, outbox.waiting - events)
    async with asyncio.timeout(60):
        while outbox.waiting > left:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def timeline(service: Process) -> dict[str, Any]:
    answer = httpx.get(f"{service.url}/v1/models/credit-risk/timeline", headers=key_of("auditor"))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_periods_are_what_the_stable_pods_applied(
    site: Site, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("k-operator")

    def outbox_at(url: str) -> Outbox:
        return Outbox(HttpTimeline(session, url, key), Telemetry())

    rollouts = Rollouts()
    with running_process(site.settings()) as service:
        rollouts.outbox = outbox_at(service.url)
        rollouts.promote("2")
        rollouts.turn()
        await deliver(rollouts.outbox, events=4)
        # The operator is killed: the next one delivers some events again, and the rest.
        rollouts.restart()
        rollouts.outbox = outbox_at(service.url)
        rollouts.fail("3")
        rollouts.abort("4")
        rollouts.environment.desired = "2"
        for _ in range(3):
            rollouts.turn()
        await deliver(rollouts.outbox)
        rollouts.turn()
        assert rollouts.state.timeline.pending == ()
        found = timeline(service)

    periods = [(p["stable_version"], p["canary_version"], p["weight"], p["mode"]) for p in found["periods"]]
    assert periods == rollouts.in_force
    assert [period for period, _ in itertools.groupby(periods)] == [
        ("1", None, 0, "live"),
        ("1", "2", 10, "live"), ("1", "2", 50, "live"), ("1", "2", 100, "live"), ("2", None, 0, "live"),
        ("2", "3", 10, "live"), ("2", "3", 50, "live"), ("2", None, 0, "live"),
        ("2", "4", 10, "live"), ("2", None, 0, "live"),
    ]  # fmt: skip
    assert found["periods"][-1]["until"] is None
    kinds = [event["kind"] for event in found["events"]]
    assert [kinds.count(kind) for kind in ("Promoted", "RolledBack", "RolloutStarted")] == [2, 2, 3]
    assert kinds.count("PointerMoved") == 4, "also the one that took it back"
    assert kinds.count("ActedManually") == 3, "resumed twice and aborted"
    assert {event["moved_by"] for event in found["events"] if event["kind"] == "PointerMoved"} == {"training run 4f"}
    assert {event["reported_by"] for event in found["events"]} == {"operator"}
    failed, aborted = (event for event in found["events"] if event["kind"] == "RolledBack")
    assert failed["message"].startswith("AnalysisFailed: ")
    assert failed["judgment"]["verdict"] == "Failed"
    assert next(r for r in failed["judgment"]["results"] if r["verdict"] == "Failed")["value"] > 0
    assert aborted["message"] == "Aborted: aborted manually"


async def test_events_wait_for_a_service_that_is_away_or_lacks_the_permission(
    site: Site, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("k-stranger")
    rollouts = Rollouts()
    with running_process(site.settings()) as service:
        rollouts.outbox = Outbox(HttpTimeline(session, service.url, key), Telemetry())
        rollouts.turn()
        task = asyncio.create_task(rollouts.outbox.run())
        await asyncio.sleep(0.5)
        rollouts.turn()
        assert rollouts.outbox.waiting == len(rollouts.state.timeline.pending) == 1
        key.write_text("k-operator")
        async with asyncio.timeout(30):
            while rollouts.outbox.waiting:
                await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [period["stable_version"] for period in timeline(service)["periods"]] == ["1"]


@pytest.mark.slow
async def test_the_operator_knows_who_moved_the_pointer_from_what_the_trainer_signs(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with mlflow_server(tmp_path) as url, warnings.catch_warnings(action="ignore", category=FutureWarning):
        client, model = MlflowClient(url), ModelRef(name="credit-risk")
        operator = MlflowRegistry(session, url)
        assert await operator.moved_by(model, "1") is None
        client.create_registered_model("credit-risk")
        info = client.create_run(client.create_experiment("loans")).info
        run = info.run_id
        for _ in range(2):
            client.create_model_version("credit-risk", f"{info.artifact_uri}/model", run_id=run)
        Registry(client, "credit-risk").move_production_pointer("1", replacing=None)
        assert await operator.desired_version(model) == "1"
        assert await operator.moved_by(model, "1") == f"training run {run}"
        # By hand, which nobody signs.
        client.set_registered_model_alias("credit-risk", "production", "2")
        assert await operator.desired_version(model) == "2"
        assert await operator.moved_by(model, "2") is None
