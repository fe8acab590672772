"""Monitoring on a cluster: the own Prometheus reads each part, and a real fault of each group fires and clears."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from charts.test_dashboards import without_data
from e2e.decision_log import Sender, run_job
from localcluster import backup, training
from localcluster.__main__ import install
from localcluster.console import wait_for
from localcluster.port_forward import PortForward
from localcluster.stack import Stack
from trainer.data.synthetic import generate

# A release of its own with everything on, whose parts are stopped one after the other. It takes long.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAMESPACE = "monitoring"
PATIENCE_SECONDS = 420.0
APPLICANTS = 500
# No gate refuses it unless it is told to, whatever the Production version is.
QUICK_TRAINING = [
    "--synthetic-rows=3000", "--hidden=16", "--bins=8", "--batch-rows=64", "--epochs=2", "--maximum-ece=1",
    "--minimum-air=0", "--margin=0.9",
]  # fmt: skip
# Windows of seconds instead of hours, and an objective that clients can miss at will.
SETTINGS: dict[str, Any] = {
    "scrapeInterval": "5s",
    "burnRates": [{"long": "60s", "short": "30s", "factor": 1, "severity": "critical"}],
    "slos": [
        {
            "name": "accepted",
            "objective": 99,
            "description": "of single applications, 99 % have no invalid field.",
            "errors": 'sum(rate(scorer_requests_total{NAMESPACE, status="422"}[WINDOW]))',
            "total": "sum(rate(scorer_requests_total{NAMESPACE}[WINDOW]))",
        }
    ],
    "alerts": {
        "NoReadyScorer": {"for": "5s"},
        "ScorerCapacityLow": {"for": "5s"},
        "RegistryUnreachable": {"for": "5s"},
        "DecisionsNotShipped": {"for": "5s", "threshold": 10},
        "BackupOld": {"for": "5s"},
        # Longer than the API server's certificate is valid.
        "CertificateExpiresSoon": {"for": "5s", "threshold": 3e9},
    },
    "probes": {"targets": ["https://kubernetes.default.svc/readyz"], "interval": "5s", "insecureSkipVerify": True},
}


def values(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Return Helm's arguments for the settings of the chart monitoring."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump({"monitoring": settings}))
    return ["--values", str(file), "--set=api.replicas=1", "--set=api.resources.requests.cpu=20m"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="module")
def watched(stack: Stack, folder: Path) -> Iterator[Stack]:
    """A release with decision log, backup metrics and Prometheus, which serves a model of its own."""
    host = f"{NAMESPACE}.credit-risk.test"
    found = Stack(stack.cluster, NAMESPACE, host=host, decision_log="log", monitoring=True)
    delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"]
    found.kubectl(*delete)
    try:
        install(found, None, None, values(folder, SETTINGS))
        found.kubectl("rollout", "status", "statefulset/prometheus", "--timeout=240s")
        yield found
    finally:
        found.kubectl(*delete, "--wait=false")


@pytest.fixture(scope="module")
def prometheus(watched: Stack) -> Iterator[str]:
    with PortForward(watched.kubectl_command(), "service/prometheus", 9090, watched.environment()) as url:
        yield url


def ask(url: str, path: str) -> Any:
    """Return the data of an answer of Prometheus' API."""
    with urllib.request.urlopen(f"{url}/api/v1/{path}", timeout=20) as answer:
        return json.load(answer)["data"]


def firing(url: str) -> set[str]:
    """Return the names of the alerts that fire."""
    return {alert["labels"]["alertname"] for alert in ask(url, "alerts")["alerts"] if alert["state"] == "firing"}


def await_alert(url: str, name: str, *, fires: bool, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until an alert fires, or until it does not."""

    def problem() -> str | None:
        meanwhile()
        try:
            found = firing(url)
        except OSError as error:
            # The port-forward starts again.
            return str(error)
        return None if (name in found) is fires else f"these fire: {sorted(found)}"

    wait_for(f"{name} to {'fire' if fires else 'clear'}", problem, timeout_seconds=PATIENCE_SECONDS)


@contextmanager
def stopped(stack: Stack, target: str) -> Iterator[None]:
    """Run no pod of a Deployment or StatefulSet during the block; afterwards, wait for one."""
    stack.kubectl("scale", target, "--replicas=0")
    try:
        yield
    finally:
        stack.kubectl("scale", target, "--replicas=1")
        stack.kubectl("rollout", "status", target, "--timeout=240s")


def test_every_part_is_read(prometheus: str) -> None:
    def problem() -> str | None:
        targets = ask(prometheus, "targets?state=active")["activeTargets"]
        up = {target["scrapePool"] for target in targets if target["health"] == "up"}
        wanted = {"api-management", "api-shipper", "operator-http", "decisions-management", "backup-metrics",
                  "monitoring", "probes"}  # fmt: skip
        return None if wanted <= up else f"{sorted(wanted - up)} are not up: {[t['lastError'] for t in targets]}"

    wait_for("all targets", problem, timeout_seconds=PATIENCE_SECONDS)


def test_service_no_ready_scorer(watched: Stack, prometheus: str) -> None:
    with stopped(watched, "deployment/scoring"):
        await_alert(prometheus, "NoReadyScorer", fires=True)
    await_alert(prometheus, "NoReadyScorer", fires=False)


def test_a_person_is_shown_the_alert_by_alertmanager(watched: Stack, prometheus: str) -> None:
    with (
        stopped(watched, "deployment/scoring"),
        PortForward(watched.kubectl_command(), "service/alertmanager", 9093, watched.environment()) as url,
    ):
        await_alert(prometheus, "NoReadyScorer", fires=True)

        def problem() -> str | None:
            with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=20) as answer:
                shown = {alert["labels"]["alertname"] for alert in json.load(answer)}
            return None if "NoReadyScorer" in shown else f"Alertmanager shows {sorted(shown)}"

        wait_for("Alertmanager", problem, timeout_seconds=PATIENCE_SECONDS)


def test_rollouts_the_registry_is_unreachable(watched: Stack, prometheus: str) -> None:
    with stopped(watched, "deployment/mlflow"):
        await_alert(prometheus, "RegistryUnreachable", fires=True)
    await_alert(prometheus, "RegistryUnreachable", fires=False)


def test_decisions_do_not_get_into_the_database(watched: Stack, prometheus: str) -> None:
    application = watched.get("/v1/model")["contract"]["reference_applicant"]
    with stopped(watched, "statefulset/postgres"):
        await_alert(
            prometheus, "DecisionsNotShipped", fires=True, meanwhile=lambda: watched.post("/v1/score", application)
        )
    await_alert(prometheus, "DecisionsNotShipped", fires=False)


def test_backups_there_is_none_yet(watched: Stack, prometheus: str) -> None:
    await_alert(prometheus, "BackupOld", fires=True)
    backup.follow(watched, backup.back_up(watched))
    await_alert(prometheus, "BackupOld", fires=False)


def test_training_a_gate_refuses_the_model(watched: Stack, prometheus: str) -> None:
    def train(*arguments: str) -> None:
        training.start(watched, "synthetic", [*QUICK_TRAINING, *arguments])

    train("--minimum-auc=0.999")
    await_alert(prometheus, "TrainingFailed", fires=True)
    train("--minimum-auc=0", "--seed=2")
    await_alert(prometheus, "TrainingFailed", fires=False)


def test_drift_applicants_are_others_than_in_training(watched: Stack, prometheus: str) -> None:
    frame = generate(6000, seed=31)
    better = frame[(frame["credit_score"] > 700) & (frame["employment_status"] == "Employed")][:APPLICANTS]
    assert len(better) == APPLICANTS
    rows = better.drop(columns=["id", "loan_paid_back"]).to_json(orient="records").encode()
    sender = Sender(watched)
    request_id = sender.score("/v1/score/batch", rows, "application/json")

    def missing() -> str | None:
        found = len(sender.decisions(request_id=request_id, limit=1000))
        return None if found == APPLICANTS else f"{found} of {APPLICANTS} decisions are there"

    wait_for("the decisions", missing, timeout_seconds=PATIENCE_SECONDS)
    tomorrow = str((datetime.now(UTC) + timedelta(days=1)).date())
    report = ("decisions-drift", "drift", "--to", tomorrow, "--days", "2", "--publish", "--exit-zero")
    run_job(watched, *report)
    await_alert(prometheus, "Drifted", fires=True)
    # Somebody decides that these are the applicants to expect.
    run_job(watched, *report, "--psi-limit", "9", "--share-limit", "0.99")
    await_alert(prometheus, "Drifted", fires=False)


def test_every_query_of_a_dashboard_is_answered(watched: Stack, prometheus: str) -> None:
    variables = {"$namespace": NAMESPACE, "$promotion": ".*", "$__rate_interval": "1m"}

    def series(expression: str) -> list[object]:
        found: list[object] = ask(prometheus, f"query?{urlencode({'query': expression})}")["result"]
        return found

    empty = without_data(series, variables)
    # What is there although nobody rolls anything out.
    assert not empty & {
        "Ready scoring pods", "Requests by status", "Latency", "Served versions", "Targets", "Newest complete backup",
        "Decisions not in Postgres yet", "Newest run by status", "Drift: lower bound of PSI beside its limit",
    }  # fmt: skip


def test_slos_the_error_budget_burns(watched: Stack, prometheus: str) -> None:
    def invalid() -> None:
        for _ in range(5):
            with pytest.raises(urllib.error.HTTPError, match="422"):
                watched.post("/v1/score", {})

    await_alert(prometheus, "SloBurnRate", fires=True, meanwhile=invalid)
    await_alert(prometheus, "SloBurnRate", fires=False)


def test_platform_a_certificate_ends_before_it_should(watched: Stack, prometheus: str, folder: Path) -> None:
    await_alert(prometheus, "CertificateExpiresSoon", fires=True)
    renewed = {**SETTINGS, "alerts": {**SETTINGS["alerts"], "CertificateExpiresSoon": {"for": "5s", "threshold": 60}}}
    watched.install(watched.images(), values(folder, renewed), train=False)
    watched.kubectl("rollout", "status", "statefulset/prometheus", "--timeout=240s")
    with PortForward(watched.kubectl_command(), "service/prometheus", 9090, watched.environment()) as url:
        await_alert(url, "CertificateExpiresSoon", fires=False)
