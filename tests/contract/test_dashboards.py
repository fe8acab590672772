"""Dashboards beside what the programs report: a real Prometheus reads them, and each panel has something to show."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from backup.metrics import BackupMetrics
from charts.test_alerts import configuration
from charts.test_dashboards import without_data
from contract.test_traces import NOWHERE, Pods, applicant, pods
from decisions.drift.document import DriftReport
from decisions.service.boundary import Metrics as ServiceMetrics
from decisions.service.drift_metrics import DriftMetrics
from decisions.shipping.metrics import ShipperMetrics
from processes import free_port
from prometheus import server
from promoter.api.resource import Owner
from promoter.api.status import AnalysisResult, Condition, HistoryEntry, Phase, State, Verdict
from promoter.notifications.delivery import Notifier, Subscription
from promoter.telemetry import Telemetry
from unit.decisions.drift.reports import drifted_report

pytestmark = pytest.mark.slow
OWNER = Owner("ns", "loans", "u-1")
VARIABLES = {"$namespace": "ns", "$promotion": "loans", "$__rate_interval": "20s"}
# Of pods that know their clients by keys; of a canary that fails, and of one with another model.
WITHOUT_DATA = {
    "Clients", "Failures of the canary (ErrorRate)", "Flips of pairs", "Flips by group (SegmentShift)",
}  # fmt: skip


class Chat:
    """A receiver that is told nothing."""

    name = "chat"

    async def deliver(self, *_: object) -> None:
        raise AssertionError


def operator() -> CollectorRegistry:
    """Return what the operator reports of a promotion after a rollout."""
    telemetry = Telemetry()
    Notifier([Subscription(Chat(), frozenset())], telemetry, time.time)
    condition = Condition(type="RegistryReachable", status="True", reason="Reachable", message="m",
                          last_transition_time="2026-05-01T00:00:00Z")  # fmt: skip
    before = State(phase=Phase.PROMOTING)
    after = State(
        phase=Phase.IDLE, conditions=(condition,), analysis=AnalysisResult(verdict=Verdict.SUCCESSFUL, at=1.0),
        history=(HistoryEntry(version="8", outcome="Promoted", reason="Promoted", at=1.0),),
    )  # fmt: skip
    telemetry.record_change(OWNER, before, after)
    telemetry.errors.labels(OWNER.namespace, OWNER.name, "retryable")
    for status, at in (("finished", 1.7e9), ("failed", 0.0), ("refused", 0.0), ("running", 0.0)):
        telemetry.training_runs.labels("credit-risk", status).set(at)
    return telemetry.registry


def decisions(report: DriftReport) -> CollectorRegistry:
    """Return what the decisions service reports after some requests and a drift report."""
    metrics = ServiceMetrics()
    metrics.requests.labels("/v1/models/{name}/training-data", 200).inc()
    metrics.seconds.labels("/v1/models/{name}/training-data").observe(0.1)
    metrics.outcomes.labels("added").inc()
    metrics.replays.labels("same").inc()
    DriftMetrics(metrics.registry)._show(report)
    return metrics.registry


def backups() -> CollectorRegistry:
    metrics = BackupMetrics()
    metrics.update(lambda: ["20260501T000000Z"])
    return metrics.registry


@contextmanager
def served(registries: Mapping[str, CollectorRegistry]) -> Iterator[dict[str, str]]:
    """Serve metrics over HTTP; yield the targets by job."""
    with ExitStack() as stack:
        targets = {}
        for job, registry in registries.items():
            port = free_port()
            http, thread = start_http_server(port, "127.0.0.1", registry)
            stack.callback(thread.join)
            stack.callback(http.server_close)
            stack.callback(http.shutdown)
            targets[job] = f"127.0.0.1:{port}"
        yield targets


def configure(folder: Path, targets: list[tuple[str, str]]) -> None:
    """Write what reads targets, each with its job, every second, and has the rules of the chart."""
    (folder / "rules.yaml").write_text(configuration()["rules.yaml"])
    scraped = [
        {"targets": [target], "labels": {"namespace": "ns", "job": job, "pod": f"pod-{number}"}}
        for number, (job, target) in enumerate(targets)
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "all", "honor_labels": True, "static_configs": scraped}],
    }))  # fmt: skip


def ask(url: str, expression: str) -> list[object]:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[object] = answer["data"]["result"]
    return found


async def clients(running: Pods, model_folder: Path) -> None:
    """Send what clients send: usual and unusual applications, some that are declined or refused, and batches."""
    usual = json.loads(applicant(model_folder))
    features = json.loads((model_folder / "contract.json").read_bytes())["features"]
    numeric = [feature for feature in features if feature["kind"] == "numeric"]
    extreme = [usual | {feature["name"]: feature[end]} for feature in numeric for end in ("minimum", "maximum")]
    answered = {(await running.score(json.dumps(sent).encode()))["decision"] for sent in [usual, *extreme]}
    assert answered == {"approve", "decline"}
    async with httpx.AsyncClient(base_url=running.stable.url) as http:
        assert (await http.post("/v1/score", json=usual | {numeric[0]["name"]: "much"})).status_code == 422
        assert (await http.post("/v1/score/batch", json=[usual, usual])).status_code == 200


async def test_each_panel_shows_what_the_programs_report(model_folder: Path, tmp_path: Path) -> None:
    report = drifted_report(tmp_path / "portfolio")
    registries = {"operator": operator(), "decisions": decisions(report), "shipper": ShipperMetrics().registry,
                  "backup": backups()}  # fmt: skip
    async with pods(model_folder, tmp_path, NOWHERE, ratio=1.0) as running:
        with served(registries) as targets:
            scorers = [("api", urlsplit(pod.management_url).netloc) for pod in (running.stable, running.canary)]
            configure(tmp_path, [*targets.items(), *scorers])
            with server(tmp_path) as url:
                deadline, empty = time.monotonic() + 60, {"all"}
                while empty != WITHOUT_DATA and time.monotonic() < deadline:
                    await clients(running, model_folder)
                    empty = without_data(partial(ask, url), VARIABLES)
    assert empty == WITHOUT_DATA
