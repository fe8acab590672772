from __future__ import annotations

import pytest

from localcluster.console import ClusterError
from unit.localcluster.fakes import Cluster

FAILED = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}


def test_the_training_run_is_waited_for_and_can_be_followed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.reply("get-jobs", "training-1")
    cluster.reply("get-job", {"status": {"succeeded": 1}})
    cluster.stack.wait_for_training()
    printed = capsys.readouterr().out
    assert 'to follow its log: eval "$(make -s env)" && kubectl -n credit-risk logs -f job/training-1' in printed


def test_a_failed_training_run_is_reported_with_the_end_of_its_log(cluster: Cluster) -> None:
    cluster.reply("get-jobs", "training-1")
    cluster.reply("get-job", FAILED)
    cluster.reply("logs-job-training-1", "gate roc_auc REFUSED")
    with pytest.raises(ClusterError, match=r"training-1 failed:\ngate roc_auc REFUSED\n  for the full log: .*kubectl"):
        cluster.stack.wait_for_training()


def test_an_open_service_has_no_api_key(cluster: Cluster) -> None:
    cluster.reply("get-secret", "")
    assert not cluster.stack.api_key
