"""Readiness codes: the shared list, and what a pod's answer means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from promoter.adapters.metrics import read_readiness
from promoter.decision.readiness import PERMANENT, Readiness, ReadinessCode

CONTRACTS = Path(__file__).parents[3] / "contracts"
CODES: list[dict[str, Any]] = json.loads((CONTRACTS / "readiness-codes.json").read_text())["codes"]


def test_the_operator_knows_the_shared_codes_and_which_of_them_are_permanent() -> None:
    assert {code.value for code in ReadinessCode} == {entry["code"] for entry in CODES}
    assert {code.value for code in PERMANENT} == {entry["code"] for entry in CODES if entry["permanent"]}


def test_the_golden_answers_are_read() -> None:
    ready, rejected = (
        read_readiness(json.loads((CONTRACTS / "golden" / f"readiness-{name}.json").read_text()))
        for name in ("ready", "artifact-rejected")
    )
    assert (ready.code, ready.permanent) == (ReadinessCode.READY, False)
    assert (rejected.code, rejected.permanent) == (ReadinessCode.ARTIFACT_REJECTED, True)
    assert rejected.detail == "not ready: model.onnx of version 4 of credit-risk has SHA-256 00, its tag says 11"


@pytest.mark.parametrize(
    ("answer", "readiness"),
    [
        ({"code": "on-holiday", "detail": "not ready: away"}, Readiness(None, "not ready: away")),
        ({"detail": "not ready: ArtifactRejected"}, Readiness(None, "not ready: ArtifactRejected")),
        (["artifact-rejected"], Readiness()),
        (None, Readiness()),
    ],
)
def test_an_answer_without_a_known_code_is_never_permanent(answer: object, readiness: Readiness) -> None:
    assert read_readiness(answer) == readiness
    assert not readiness.permanent
