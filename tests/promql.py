"""Which metrics and labels a PromQL expression names, checked against those that exist."""

from __future__ import annotations

import json
import re

from conftest import REPOSITORY

# What Prometheus adds to every series it reads from a pod, and `le` of buckets.
TARGET = {"namespace", "pod", "container", "job", "instance", "le"}
# Metrics of others, with the labels that are used.
OTHERS: dict[str, set[str]] = {
    "up": set(),
    "kube_cronjob_status_last_successful_time": {"cronjob"},
    "kube_job_failed": {"job_name", "condition"},
    "kubelet_volume_stats_available_bytes": {"persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim"},
    "probe_ssl_earliest_cert_expiry": set(),
    "probe_success": set(),
    "certmanager_certificate_expiration_timestamp_seconds": {"name"},
}
_SELECTOR = re.compile(r"\b([a-z_:][a-z0-9_:]*)\s*(?:\{([^}]*)\})?(?!\s*\(|[a-z0-9_:])", re.IGNORECASE)
_MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS = {"or", "and", "unless", "by", "without", "on", "ignoring", "bool", "offset", "group_left", "group_right"}


def known() -> dict[str, set[str]]:
    """Return the labels of each name that queries may use, a histogram's buckets, sum and count included."""
    document = json.loads((REPOSITORY / "contracts/metrics.json").read_text("utf-8"))
    found = dict(OTHERS)
    for metric in [*document["metrics"], *document["published"]]:
        suffixes = ("_bucket", "_sum", "_count") if metric["type"] == "histogram" else ("",)
        for suffix in suffixes:
            found[metric["name"] + suffix] = set(metric["labels"])
    return found


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names.

    Raises:
        AssertionError: One does not exist, or has not the labels that it is asked for.
    """
    existing, found, labels = known(), set(), set[str]()
    for text in _GROUPING.findall(expression):
        labels |= {label.strip() for label in text.split(",") if label.strip()}
    bare = _GROUPING.sub(" ", expression)
    for name, matchers in _SELECTOR.findall(re.sub(r"\[[^]]*\]", " ", bare)):
        if name in _WORDS or (name not in existing and not matchers and "_" not in name and ":" not in name):
            continue
        if name.startswith("slo:"):
            assert set(_MATCHER.findall(matchers)) <= TARGET | {"slo"}, expression
        else:
            assert name in existing, f"{name} does not exist: {expression}"
            assert set(_MATCHER.findall(matchers)) <= TARGET | existing[name], f"{name}: {expression}"
        found.add(name)
    every = TARGET.union({"slo"}, *(existing.get(name, set()) for name in found))
    assert labels <= every, f"{labels - every}: {expression}"
    return found
