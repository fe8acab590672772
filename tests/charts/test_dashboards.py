"""Dashboards: every query runs in a real Prometheus that has all metrics, and answers with series.

tests/contract/test_dashboards.py asks for the metrics of the programs themselves.

Grafana itself is not in the package registries that tests can rely on: that it draws the panels is not tested.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from charts.rendering import CHARTS, of_kind, render
from contract.metrics_page import contract
from prometheus import program, server
from promql import metrics_in

BOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted((CHARTS / "monitoring/files/dashboards").glob("*"))
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name, board in BOARDS.items() for panel in board["panels"]
]
VARIABLES = {"$namespace": "ns", "$promotion": "loans", "$__rate_interval": "5m"}
# Labels with any value: one that the queries ask for.
VALUES = {"namespace": ["ns"], "name": ["loans"], "phase": ["Idle"], "type": ["RegistryReachable"], "status": ["200"],
          "route": ["/v1/training-data"]}  # fmt: skip
# Where the contract leaves a label's values open, or one of many is asked for.
CHOSEN = {"promoter_condition": {"status": ["True"]}}
TARGET = 'namespace="ns",job="api",pod="a",instance="a:9090"'
MINUTES = 30


def expressions(panel: dict[str, Any], variables: Mapping[str, str] = VARIABLES) -> list[str]:
    """Return a panel's queries with values for the dashboard's variables."""
    found = []
    for target in panel["targets"]:
        expression = target["expr"]
        for variable, value in variables.items():
            expression = expression.replace(variable, value)
        found.append(expression)
    return found


def without_data(ask: Callable[[str], Sequence[object]], variables: Mapping[str, str]) -> set[str]:
    """Return the titles of the panels of which a query answers with no series."""
    return {
        panel["title"]
        for board in BOARDS.values()
        for panel in board["panels"]
        if not all(map(ask, expressions(panel, variables)))
    }


def samples(now: float) -> str:
    """Return half an hour of all metrics as OpenMetrics: counters grow, gauges are constant."""
    lines = []
    for metric in contract():
        values = [
            CHOSEN.get(metric["name"], {}).get(label) or (allowed[:8] if allowed else VALUES.get(label, ["x"]))
            for label, allowed in metric["labels"].items()
        ]
        for chosen in itertools.product(*values):
            own = ",".join(f'{label}="{value}"' for label, value in zip(metric["labels"], chosen, strict=True))
            target = ",".join(part for part in TARGET.split(",") if part.partition("=")[0] not in metric["labels"])
            lines += _series(metric["name"], metric["type"], f"{own},{target}".strip(","), now)
    lines += _series("up", "gauge", TARGET, now)
    for slo in ("availability", "latency"):
        lines += _series("slo:error_ratio:rate1h", "gauge", f'namespace="ns",slo="{slo}"', now)
    return "\n".join([*lines, "# EOF\n"])


def _series(name: str, kind: str, labels: str, now: float) -> list[str]:
    names = [(name, labels)]
    if kind == "histogram":
        names = [(f"{name}_bucket", f'{labels},le="{edge}"') for edge in ("0.1", "1.0", "+Inf")]
        names += [(f"{name}_sum", labels), (f"{name}_count", labels)]
    return [
        f"{each}{{{found}}} {minute + 1 if kind != 'gauge' else 1} {now - 60 * (MINUTES - minute):.0f}"
        for each, found in names
        for minute in range(MINUTES)
    ]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples").write_text(samples(time.time()))
    blocks = ["tsdb", "create-blocks-from", "openmetrics", str(folder / "samples"), str(folder / "data")]
    created = subprocess.run([program("promtool"), *blocks], capture_output=True, text=True)
    assert created.returncode == 0, created.stdout + created.stderr
    (folder / "prometheus.yaml").write_text("scrape_configs: []\n")
    with server(folder) as url:
        yield url


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_of_a_panel_answers_with_series(panel: dict[str, Any], prometheus: str) -> None:
    for expression in expressions(panel):
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        assert answer["data"]["result"], expression


@pytest.mark.parametrize("panel", PANELS)
def test_every_metric_and_label_of_a_panel_exists(panel: dict[str, Any]) -> None:
    for expression in expressions(panel):
        assert metrics_in(expression)


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_complete(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"credit-risk-{name}"
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles)
    variables = {f"${variable['name']}" for variable in board["templating"]["list"]}
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            used = {word for word in VARIABLES if word in target["expr"]}
            assert used - {"$__rate_interval"} <= variables


def test_the_sidecar_of_grafana_finds_all_dashboards() -> None:
    (found,) = of_kind(render("monitoring/ci/rules-only-values.yaml"), "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text) for name, text in found["data"].items()} == {
        f"credit-risk-{name}.json": board for name, board in BOARDS.items()
    }
