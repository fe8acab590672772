"""MLflow with the chart's settings, while fifty clients use it at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from conftest import REPOSITORY
from mlflow_server import MLFLOW_IMAGE
from unit.backup.parallel_clients import work
from unit.backup.services import Site, TrackingServer

CLIENTS = 50


@pytest.mark.soak
@pytest.mark.slow
def test_fifty_clients_at_once_all_succeed_within_the_memory_limit(site: Site, server: TrackingServer) -> None:
    values = yaml.safe_load((REPOSITORY / "charts/mlflow/values.yaml").read_text())
    limit = int(values["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    load = work(server, CLIENTS, epochs=6)
    assert load.errors == {}
    assert len(load.seconds) == CLIENTS * 12
    # A quarter stays free for what a pod has beside its processes' memory, and for growth.
    assert load.peak_bytes < 0.75 * limit, f"{load.peak_bytes >> 20} MiB of {limit >> 20} MiB"


@pytest.mark.slow
def test_no_search_imports_half_of_basic_authentication() -> None:
    # A search that comes meanwhile would be answered with 500; it takes some thousands of them to see one.
    environment = {**os.environ, "PYTHONPATH": str(MLFLOW_IMAGE)}
    command = [sys.executable, "-c", "from mlflow.server import auth"]
    tried = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: import of mlflow.server.auth halted" in tried.stderr
