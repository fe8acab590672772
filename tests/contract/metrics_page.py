"""Write docs/metrics.md from contracts/metrics.json: `python -m contract.metrics_page`, with PYTHONPATH=tests."""

from __future__ import annotations

import json
from typing import Any

from conftest import REPOSITORY

PAGE = REPOSITORY / "docs/metrics.md"
CONTRACT = REPOSITORY / "contracts/metrics.json"
BEGIN = "<!-- From contracts/metrics.json by tests/contract/metrics_page.py: change that file, not these tables. -->\n"
PARTS = {
    "scorer": ("Scoring pods", "api, port 9090"),
    "shipper": ("The shipper in scoring pods", "api, port 9091; with the decision log"),
    "operator": ("The operator", "operator, port 8080"),
    "decisions": ("The decisions service", "decisions, port 9091; with the decision log"),
    "bulk": ("Bulk scoring", "bulk, port 9093; while its Job runs"),
    "backup": ("Backups", "backup, port 9092; with `backup.metrics.enabled`"),
}
# The longest suffix that fits names the unit.
_UNITS = {
    "_timestamp_seconds": "seconds since 1970",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_percent": "percent",
    "_info": "always 1",
    "_probability_of_default": "probability",
}


def contract() -> list[dict[str, Any]]:
    """Return all listed metrics; what the operator reads belongs to the scorer."""
    document = json.loads(CONTRACT.read_text("utf-8"))
    return [*({"part": "scorer", **metric} for metric in document["metrics"]), *document["published"]]


def tables(metrics: list[dict[str, Any]]) -> str:
    """Return one table for each part."""
    text = [BEGIN]
    for part, (title, where) in PARTS.items():
        text += [f"\n## {title}\n\nPods of the chart {where}.\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n"]  # fmt: skip  # noqa: E501
        own = sorted((metric for metric in metrics if metric["part"] == part), key=lambda metric: metric["name"])
        for metric in own:
            cells = (f"`{metric['name']}`", metric["type"], _unit(metric), _labels(metric["labels"]), metric["meaning"])
            text.append(f"| {' | '.join(cells)} |\n")
    return "".join(text)


def _unit(metric: dict[str, Any]) -> str:
    name = metric["name"].removesuffix("_total")
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "count")


def _labels(labels: dict[str, list[str] | None]) -> str:
    # Edges of score bins are in another metric's `le`.
    shown = [
        f"`{name}`" + (f" ({', '.join(allowed)})" if allowed and len(allowed) < 10 else "")
        for name, allowed in labels.items()
    ]
    return ", ".join(shown)


def main() -> None:
    """Replace the page's tables."""
    words = PAGE.read_text("utf-8").partition(BEGIN)[0]
    PAGE.write_text(words + tables(contract()), "utf-8")


if __name__ == "__main__":
    main()
