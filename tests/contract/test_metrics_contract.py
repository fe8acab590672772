"""contracts/metrics.json lists exactly the metrics that the programs have, and docs/metrics.md says so."""

from __future__ import annotations

import re
import subprocess

import pytest
from prometheus_client import generate_latest

from contract.metric_registries import REGISTRIES, Metric, metrics_of
from contract.metrics_page import BEGIN, PAGE, contract, tables
from prometheus import program

# A part's metrics begin with its program's name.
PREFIXES = {
    "scorer": "scorer_",
    "operator": "promoter_",
    "shipper": "decisions_shipper_",
    "decisions": "decisions_",
    "bulk": "bulk_",
    "backup": "backup_",
}
# The types that Prometheus forbids in names, and units that are not base units.
_WRONG = re.compile(r"_(gauge|counter|histogram|summary|milliseconds|minutes|hours|kilobytes|mebibytes)(_|$)")


@pytest.mark.parametrize("part", REGISTRIES)
def test_the_contract_lists_exactly_the_metrics_of_a_part_with_their_types_and_labels(part: str) -> None:
    listed = sorted(
        (
            Metric(metric["name"], metric["type"], tuple(metric["labels"]))
            for metric in contract()
            if metric["part"] == part
        ),
        key=lambda metric: metric.name,
    )
    assert listed == metrics_of(part)


@pytest.mark.parametrize("metric", contract(), ids=lambda metric: metric["name"])
def test_every_name_follows_the_scheme(metric: dict[str, str]) -> None:
    assert re.fullmatch("[a-z][a-z0-9_]*", metric["name"])
    assert metric["name"].startswith(PREFIXES[metric["part"]])
    assert metric["name"].endswith("_total") is (metric["type"] == "counter")
    assert not _WRONG.search(metric["name"])
    assert metric["meaning"]


def test_every_metric_has_a_help_text() -> None:
    for part, registry in REGISTRIES.items():
        text = generate_latest(registry()).decode()
        assert not re.findall(r"^# HELP \w+ ?$", text, re.MULTILINE), part


@pytest.mark.parametrize("part", REGISTRIES)
def test_promtool_finds_nothing_to_improve(part: str) -> None:
    text = generate_latest(REGISTRIES[part]())
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_page_has_the_tables_of_the_contract() -> None:
    _, begin, found = PAGE.read_text("utf-8").partition(BEGIN)
    assert begin + found == tables(contract()), "run python -m contract.metrics_page"
