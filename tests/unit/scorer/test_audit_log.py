"""The audit log: one line per answer with its client, and none of the applicant's data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from scorer.app import OPEN_PATHS, create_app
from scorer.auth.access_control import AccessControl
from scorer.auth.api_keys import ApiKeys
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings


@pytest.fixture
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, Identity("credit-risk", "7", "run", {}, {})))


def applicant(slot: ModelSlot, **changed: object) -> dict[str, Any]:
    assert slot.model
    return {**slot.model.contract.reference_applicant, **changed}


async def ask(slot: ModelSlot, keys: Path, path: str, body: object, **settings: Any) -> httpx.Response:
    (keys / "lending-app").write_text(hashlib.sha256(b"k-1").hexdigest())
    access = AccessControl(ApiKeys(keys), OPEN_PATHS, CollectorRegistry())
    app = create_app(Settings(pod_name="pod-1", **settings), slot, Metrics(), admission=access)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        return await http.post(path, json=body, headers={"X-API-Key": "k-1"})


async def test_an_answer_is_one_line_with_its_client_and_without_applicant_data(
    slot: ModelSlot, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    body = applicant(slot, employment_status="Unemployed", annual_income=12_345.0, applicant_id="somebody")
    found = (await ask(slot, tmp_path, "/v1/score?reasons=2", body, audit_log=True)).json()
    (line,) = capfdbinary.readouterr().out.splitlines()
    written = json.loads(line)
    assert (written["audit"], written["client"]) == ("score", "lending-app")
    for name in ("request_id", "model", "served_by", "decision", "score_points", "probability_of_default"):
        assert written[name] == found[name]
    assert written["reasons"] == [reason["code"] for reason in found["reasons"]]
    assert not [word for word in (b"Unemployed", b"12345", b"12,345", b"somebody") if word in line]


async def test_an_answer_without_reasons_is_logged_without_them(
    slot: ModelSlot, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    answer = await ask(slot, tmp_path, "/v1/score", applicant(slot), audit_log=True)
    assert answer.status_code == 200
    written = json.loads(capfdbinary.readouterr().out)
    assert written["probability_of_default"] == answer.json()["probability_of_default"]
    assert "reasons" not in written


async def test_a_batch_is_one_line(slot: ModelSlot, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = [applicant(slot), applicant(slot, credit_score=1), applicant(slot)]
    assert (await ask(slot, tmp_path, "/v1/score/batch", rows, audit_log=True)).status_code == 200
    (line,) = capfdbinary.readouterr().out.splitlines()
    written = json.loads(line)
    assert (written["audit"], written["client"], written["rows"], written["refused"]) == ("batch", "lending-app", 3, 1)
    assert written["model"] == {"name": "credit-risk", "version": "7"}


async def test_the_audit_log_is_off_by_default(
    slot: ModelSlot, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert (await ask(slot, tmp_path, "/v1/score", applicant(slot))).status_code == 200
    assert capfdbinary.readouterr().out == b""
