"""A report as a run of MLflow, one for each day, under the run that trained the version; over MLflow's REST API."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import urllib3
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from decisions.drift.document import DriftReport
from decisions.drift.page import page
from decisions.errors import DecisionsError

_TIMEOUT = Timeout(connect=5, read=30)
# MLflow takes so many metrics at once.
_MOST_METRICS = 1000
# Of a metric's name: what MLflow allows beside letters and digits.
_ALLOWED = frozenset("_-. /")
Answer = dict[str, Any]


class MlflowError(DecisionsError):
    """MLflow cannot be reached, or refuses."""


def log_report(url: str, report: DriftReport) -> str:
    """Log a report and return the run's id. The run of the same day and version is taken again.

    Raises:
        MlflowError: MLflow cannot be reached, has no such version, or refuses.
    """
    server = _Server(url)
    version = server.call("GET", "model-versions/get", {"name": report.model, "version": report.version})[
        "model_version"
    ]
    parent = server.call("GET", "runs/get", {"run_id": version["run_id"]})["run"]["info"]
    run = server.run_of_day(report, parent)
    milliseconds = round(report.created_at.timestamp() * 1000)
    metrics = [
        {"key": name, "value": value, "timestamp": milliseconds, "step": 0} for name, value in metrics_of(report)
    ]
    for first in range(0, len(metrics), _MOST_METRICS):
        server.call(
            "POST", "runs/log-batch", {"run_id": run["run_id"], "metrics": metrics[first : first + _MOST_METRICS]}
        )
    server.upload(run["artifact_uri"], "drift-report.html", page(report).encode(), "text/html")
    server.upload(run["artifact_uri"], "drift-report.json", report.model_dump_json().encode(), "application/json")
    server.call("POST", "runs/update", {"run_id": run["run_id"], "status": "FINISHED", "end_time": milliseconds})
    return str(run["run_id"])


def metrics_of(report: DriftReport) -> Iterator[tuple[str, float]]:
    """Yield a report's figures as MLflow's metrics."""
    yield "drift.drifted", float(report.verdict == "drifted")
    yield "drift.decisions", float(report.decisions)
    for of in filter(None, (report.score, *report.features, report.reasons)):
        yield f"drift.psi.{_name(of.name)}", of.distance.psi.value
        yield f"drift.psi_lower.{_name(of.name)}", of.distance.psi.lower
        yield f"drift.jensen_shannon.{_name(of.name)}", of.distance.jensen_shannon.value
    for version in report.performance:
        if version.version != report.version:
            continue
        for kind, found in (("expected", version.expected), ("realized", version.realized)):
            if found:
                yield f"{kind}.default_rate", found.default_rate.value
                yield f"{kind}.brier", found.brier.value
                for name, figure in (("auc", found.auc), ("gini", found.gini), ("ks", found.ks)):
                    if figure and math.isfinite(figure.value):
                        yield f"{kind}.{name}", figure.value


class _Server:
    """One MLflow server that serves artifacts."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._pool = PoolManager(timeout=_TIMEOUT, retries=urllib3.Retry(2, redirect=0, backoff_factor=0.2))

    def call(self, method: str, path: str, values: Mapping[str, Any]) -> Answer:
        """Return the answer of an endpoint of the API."""
        url = f"{self._url}/api/2.0/mlflow/{path}"
        if method == "GET":
            return msgspec.json.decode(self._send(method, url, fields=values), type=Answer)
        body = msgspec.json.encode(values)
        return msgspec.json.decode(self._send(method, url, body=body, kind="application/json"), type=Answer)

    def upload(self, artifacts: str, name: str, content: bytes, kind: str) -> None:
        """Write an artifact of a run."""
        location = urlsplit(artifacts)
        if location.scheme != "mlflow-artifacts":
            raise MlflowError(f"the run's artifacts are at {artifacts}, which the server does not proxy")
        path = quote(f"{location.path.strip('/')}/{name}")
        self._send("PUT", f"{self._url}/api/2.0/mlflow-artifacts/artifacts/{path}", body=content, kind=kind)

    def run_of_day(self, report: DriftReport, parent: Mapping[str, Any]) -> Answer:
        """Return the run of the report's last day, a new one if there is none; it lies under the parent."""
        day = (report.until - timedelta(days=1)).date().isoformat()
        tags = {"mlflow.parentRunId": parent["run_id"], "drift.day": day, "drift.version": report.version}
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.call("POST", "runs/search", {"experiment_ids": [parent["experiment_id"]], "filter": condition,
                                                  "max_results": 1})  # fmt: skip
        if runs := found.get("runs"):
            known: Answer = runs[0]["info"]
            return known
        made = self.call("POST", "runs/create", {
            "experiment_id": parent["experiment_id"], "run_name": f"drift {day}",
            "start_time": round(report.created_at.timestamp() * 1000),
            "tags": [{"key": key, "value": value} for key, value in {**tags, "drift.verdict": report.verdict}.items()],
        })  # fmt: skip
        new: Answer = made["run"]["info"]
        return new

    def _send(
        self,
        method: str,
        url: str,
        *,
        fields: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        kind: str = "",
    ) -> bytes:
        try:
            answer = self._pool.request(
                method, url, fields=fields, body=body, headers={"Content-Type": kind} if kind else {}
            )
        except HTTPError as error:
            raise MlflowError(f"{url}: {error}") from error
        if answer.status != 200:
            raise MlflowError(f"{url} answered {answer.status}: {answer.data[:300].decode(errors='replace')}")
        return answer.data


def _name(text: str) -> str:
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in _ALLOWED) else "_" for sign in text)
