"""The stand-in for a metrics server: what it makes of a kubelet's summary."""

from __future__ import annotations

from e2e.metrics_api import pod_metrics

SUMMARY = {"pods": [
    {"podRef": {"namespace": "bank", "name": "scoring-a"}, "containers": [
        {"name": "scorer", "cpu": {"time": "2026-11-29T05:00:10Z", "usageNanoCores": 7_000_000},
         "memory": {"workingSetBytes": 110}},
        {"name": "shipper", "cpu": {"time": "2026-11-29T05:00:08Z", "usageNanoCores": 1_000_000}},
    ]},
    {"podRef": {"namespace": "bank", "name": "scoring-new"}, "containers": [
        {"name": "scorer", "cpu": {"time": "2026-11-29T05:00:10Z", "usageNanoCores": 7_000_000}},
        {"name": "shipper", "cpu": {"time": "2026-11-29T05:00:10Z"}},
    ]},
    {"podRef": {"namespace": "other", "name": "scoring-a"}, "containers": [
        {"name": "scorer", "cpu": {"time": "2026-11-29T05:00:10Z", "usageNanoCores": 9}}]},
]}  # fmt: skip


def test_a_pod_has_each_containers_use_at_the_time_of_the_oldest_measurement() -> None:
    (item,) = pod_metrics([("bank", "scoring-a")], [SUMMARY])["items"]
    assert item["metadata"] == {"namespace": "bank", "name": "scoring-a"}
    assert item["timestamp"] == "2026-11-29T05:00:08Z"
    assert [one["usage"] for one in item["containers"]] == [
        {"cpu": "7000000n", "memory": "110"}, {"cpu": "1000000n", "memory": "0"}]  # fmt: skip


def test_pods_that_were_not_asked_for_or_not_measured_twice_are_left_out() -> None:
    assert pod_metrics([("bank", "scoring-new"), ("bank", "gone")], [SUMMARY, {}])["items"] == []
