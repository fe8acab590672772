from __future__ import annotations

import json
import shlex

import pytest

from localcluster.report import report
from unit.localcluster.fakes import Cluster

APPLICATION = {"annual_income": 1.5, "loan_purpose": "Kid's car"}
ANSWER = {
    "probability_of_default": 0.12345,
    "decision": "approve",
    "model": {"name": "credit-risk", "version": "1"},
}


def test_the_report_has_the_score_the_addresses_and_a_command_that_repeats_it(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    report(cluster.stack, {"application": APPLICATION, "answer": ANSWER})
    lines = capsys.readouterr().out.splitlines()
    assert "probability of default 0.1235, decision: approve, model: credit-risk version 1" in lines[1]
    printed = "\n".join(lines)
    for address in ("http://127.0.0.1:8080/v1/score", "http://127.0.0.1:5000", "/node/kubeconfig", "/state/logs"):
        assert address in printed
    (curl,) = (shlex.split(line) for line in lines if line.lstrip().startswith("curl"))
    assert json.loads(curl[-1]) == APPLICATION
