"""Clients of an MLflow server that all work at once, each as a training run does, without retries."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from mlflow import MlflowClient

from unit.backup.services import TrackingServer

ARTIFACT = bytes(2 << 20)


@dataclass
class Load:
    """What a number of clients saw.

    Attributes:
        seconds: How long each request took.
        errors: Requests by path and answer that got no 200.
        peak_bytes: The most memory that the server's processes took together.
        elapsed: Seconds from the first request to the last answer.
    """

    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0
    elapsed: float = 0.0

    def quantile(self, share: float) -> float:
        """Return a quantile of the requests' durations, in seconds."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def work(server: TrackingServer, clients: int, epochs: int) -> Load:
    """Let that many clients each log a run with this many epochs, and upload and download an artifact of 2 MiB."""
    load = Load()
    # The default one is not in a database that a test has lost.
    experiment = MlflowClient(server.url).create_experiment(f"parallel clients {time.time_ns()}")
    started = time.monotonic()
    with _measured(server, load), ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda number: _Client(server.url, experiment, load).run(number, epochs), range(clients)))
    load.elapsed = time.monotonic() - started
    return load


@contextmanager
def _measured(server: TrackingServer, load: Load) -> Iterator[None]:
    done = threading.Event()

    def measure() -> None:
        while not done.wait(0.2):
            load.peak_bytes = max(load.peak_bytes, server.memory_bytes())

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Client:
    def __init__(self, url: str, experiment: str, load: Load) -> None:
        self._session, self._url, self._experiment, self._load = requests.Session(), url, experiment, load

    def run(self, number: int, epochs: int) -> None:
        """Do what a training run does."""
        created = self._call("POST", "mlflow/runs/create", json={"experiment_id": self._experiment, "start_time": 1})
        if not created:
            return
        run = created["run"]["info"]
        for step in range(epochs):
            metrics = [{"key": f"loss-{key}", "value": 0.5, "timestamp": step, "step": step} for key in range(4)]
            self._call("POST", "mlflow/runs/log-batch", json={"run_id": run["run_id"], "metrics": metrics})
        self._call("POST", "mlflow/runs/set-tag", json={"run_id": run["run_id"], "key": "number", "value": str(number)})
        path = f"mlflow-artifacts/artifacts/{self._experiment}/{run['run_id']}/artifacts/model.onnx"
        self._call("PUT", path, data=ARTIFACT)
        self._call("GET", path)
        self._call("POST", "mlflow/runs/search", json={"experiment_ids": [self._experiment], "max_results": 100})
        self._call("GET", "mlflow/runs/get", params={"run_id": run["run_id"]})

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        started = time.monotonic()
        try:
            answer = self._session.request(method, f"{self._url}/api/2.0/{path}", timeout=120, **options)
        except requests.RequestException as error:
            self._load.errors[f"{path}: {type(error).__name__}"] += 1
            return {}
        self._load.seconds.append(time.monotonic() - started)
        if answer.status_code != 200:
            self._load.errors[f"{path.rpartition('/')[2]}: {answer.status_code} {answer.text[:120]}"] += 1
            return {}
        found: dict[str, Any] = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        return found
