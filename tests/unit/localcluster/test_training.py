from __future__ import annotations

from typing import Any

import pytest

from localcluster import training
from localcluster.console import ClusterError
from unit.localcluster.fakes import Cluster


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
