from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcluster import training
from localcluster.console import ClusterError
from unit.localcluster.fakes import Cluster, put

# Keeps each created object in a file of its own.
CREATING_KUBECTL = """
shift 2
case "$1" in
version) echo '{"serverVersion": {"gitVersion": "v1.20.15"}}' ;;
get) printf the-uid ;;
create) cp "$3" "CREATED/$(ls CREATED | wc -l).json" ;;
esac
"""


def pod(exit_code: int) -> dict[str, Any]:
    state = {"terminated": {"exitCode": exit_code}}
    return {
        "metadata": {"name": "training-1-abcde"},
        "status": {"phase": "Succeeded", "containerStatuses": [{"state": state}]},
    }


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (2, r"invalid data or arguments \(exit code 2\)"),
        (3, r"a gate refused the model \(exit code 3\)"),
        (4, "BackoffLimitExceeded"),
    ],
)
def test_a_failed_run_is_reported_with_its_reason(exit_code: int, reason: str, cluster: Cluster) -> None:
    failed = {"type": "Failed", "status": "True", "message": "BackoffLimitExceeded"}
    cluster.reply("get-job", {"status": {"conditions": [failed]}})
    cluster.reply("get-pods", {"items": [pod(exit_code)]})
    cluster.reply("logs---follow", "")
    with pytest.raises(ClusterError, match=f"training-1 failed: {reason}"):
        training.follow(cluster.stack, "training-1")


def test_the_log_of_a_successful_run_is_printed(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    cluster.reply("get-job", {"status": {"conditions": [{"type": "Complete", "status": "True"}]}})
    cluster.reply("get-pods", {"items": [pod(0)]})
    cluster.reply("logs---follow", "epoch 1 of at most 6")
    training.follow(cluster.stack, "training-1")
    assert capfd.readouterr().out == "epoch 1 of at most 6"


def rendered(name: str) -> dict[str, dict[str, Any]]:
    """Return what the chart renders for a run, as far as it matters here."""
    volumes = [{"name": "checkpoints"}, {"name": "features", "configMap": {"name": "training-features"}}]
    job = {"metadata": {"name": name}, "spec": {"template": {"spec": {"volumes": volumes}}}}
    return {
        "Job": {"apiVersion": "batch/v1", "kind": "Job", **job},
        "ConfigMap": {"kind": "ConfigMap", "metadata": {"name": "training-features"}},
        "ServiceAccount": {"kind": "ServiceAccount", "metadata": {"name": "training"}},
    }


def test_a_runs_feature_declaration_belongs_to_its_job_alone(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = tmp_path / "created"
    created.mkdir()
    put(cluster.stack.cluster.paths.tools, "kubectl", CREATING_KUBECTL.replace("CREATED", str(created)))
    (tmp_path / "features.json").write_text("\ufeff{}", encoding="utf-8")
    asked: list[Any] = []

    def render(stack: Any, values: Any, arguments: Any, version: str) -> dict[str, dict[str, Any]]:
        asked.append((values, arguments, version))
        return rendered("training-1")

    monkeypatch.setattr(training, "render", render)
    assert training.start(cluster.stack, "synthetic", ["--epochs=1"], tmp_path / "features.json") == "training-1"
    assert asked == [({"data": "synthetic", "features": "{}"}, ["--epochs=1"], "v1.20.15")]
    job, declaration = (json.loads((created / f"{index}.json").read_text()) for index in range(2))
    name = declaration["metadata"]["name"]
    assert name != "training-features"
    assert job["spec"]["template"]["spec"]["volumes"][1]["configMap"]["name"] == name
    (owner,) = declaration["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", "training-1", "the-uid")


@pytest.mark.parametrize("data", ["decisions", "decisions://?matured=6m"])
def test_a_run_on_decisions_needs_the_decision_log(
    data: str, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.reply("get-secret", "")
    with pytest.raises(ClusterError, match="no decision log to train from; `make up DECISIONS=log`"):
        training.start(cluster.stack, data, [])

    created = tmp_path / "created"
    created.mkdir()
    put(cluster.stack.cluster.paths.tools, "kubectl", CREATING_KUBECTL.replace("CREATED", str(created)))
    asked: list[Any] = []

    def render(stack: Any, values: Any, arguments: Any, version: str) -> dict[str, dict[str, Any]]:
        asked.append(values)
        documents = rendered("training-1")
        del documents["ConfigMap"]
        return documents

    monkeypatch.setattr(training, "render", render)
    assert training.start(cluster.stack, data, []) == "training-1"
    assert asked == [{"data": data}], "not taken for a file"
