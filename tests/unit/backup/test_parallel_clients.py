"""MLflow with the chart's settings, while fifty clients use it at once."""

from __future__ import annotations

import pytest
import yaml

from conftest import REPOSITORY
from unit.backup.parallel_clients import work
from unit.backup.services import Site, TrackingServer

CLIENTS = 50


@pytest.mark.slow
def test_fifty_clients_at_once_all_succeed_within_the_memory_limit(site: Site, server: TrackingServer) -> None:
    values = yaml.safe_load((REPOSITORY / "charts/mlflow/values.yaml").read_text())
    limit = int(values["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    load = work(server, CLIENTS, epochs=6)
    assert load.errors == {}
    assert len(load.seconds) == CLIENTS * 12
    # A quarter stays free for what a pod has beside its processes' memory, and for growth.
    assert load.peak_bytes < 0.75 * limit, f"{load.peak_bytes >> 20} MiB of {limit >> 20} MiB"
