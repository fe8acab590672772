from __future__ import annotations

from pathlib import Path

from localcluster.embedded.node import Component, Plan


def test_a_saved_plan_can_be_loaded(tmp_path: Path) -> None:
    etcd = Component("etcd", ["etcd"], {"A": "b"}, 2379)
    plan = Plan("host", "10.0.0.1", "logs", "status", {"a": "b"}, [3], [etcd, Component("x", ["y"])])
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
