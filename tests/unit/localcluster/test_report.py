from __future__ import annotations

import base64
import json
import shlex
from dataclasses import replace

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


def test_the_report_shows_how_to_read_decisions_if_they_are_kept(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.reply("get-secret", base64.b64encode(b"the-key").decode())
    report(replace(cluster.stack, decision_log="log"), {"application": APPLICATION, "answer": ANSWER})
    lines = capsys.readouterr().out.splitlines()
    (found,) = (shlex.split(line) for line in lines if "/v1/decisions" in line)
    assert "Authorization: Bearer the-key" in found
    assert found[-1] == "http://127.0.0.1:8080/v1/decisions?limit=10"
