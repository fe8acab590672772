"""The scoring service and the shipper over real segments: what one answers, the other puts into Postgres."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from scorer.app import create_app
from scorer.decision_log.ids import DecisionIds
from scorer.decision_log.log import Mode
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.decisions.decisions_database import DecisionsDatabase, decisions_database
from unit.decisions.shipping.proof import assert_chain
from unit.decisions.shipping.running import Running
from unit.scorer.decision_segments import decision_log
from unit.scorer.protocols import PROTOCOLS, Sample, probabilities, sample, values_of

pytestmark = pytest.mark.slow
POD = "pod-1"
DIGESTS = {"model.onnx": "ab" * 32}
ENDPOINTS = {"score", "batch", "ndjson", "invocations", "open_inference"}
# Answers with more than a score; MLflow's protocol has none.
WITH_DECISIONS = [name for name in PROTOCOLS if name not in {"split", "frame-records", "instances", "inputs"}
                  and name != "invocations-csv"]  # fmt: skip


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, Identity("credit-risk", "7", "run", DIGESTS, {}))


@pytest.fixture(scope="module")
def server() -> Iterator[DecisionsDatabase]:
    with decisions_database() as database:
        yield database


@pytest.fixture
def database(server: DecisionsDatabase) -> DecisionsDatabase:
    server.clear()
    return server


@contextlib.asynccontextmanager
async def service(model: Model, folder: Path, mode: Mode) -> AsyncIterator[httpx.AsyncClient]:
    """Run the service in this process, with a real log on disk."""
    metrics = Metrics()
    async with decision_log(folder, mode, registry=metrics.registry) as running:
        app = create_app(Settings(pod_name=POD), ModelSlot(model), metrics, decisions=running.log)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
            yield http


def applicants(model: Model, *changes: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{**model.contract.reference_applicant, **change} for change in changes]


async def post(http: httpx.AsyncClient, form: Sample, **headers: str) -> httpx.Response:
    own = {
        "Content-Type": form.media_type,
        **form.headers,
        **{name.replace("_", "-"): headers[name] for name in headers},
    }
    answer = await http.post(form.path, content=form.body, headers={n.encode(): v.encode() for n, v in own.items()})
    assert answer.status_code == 200, answer.text
    return answer


def shipped(database: DecisionsDatabase, folder: Path) -> Sequence[Any]:
    """Ship what is in a folder, and return all records in the order of their log, with every hash checked."""
    running = Running(folder, database.url, pod=POD)
    running.turn()
    assert running.health.ready() == (200, "ready\n")
    assert not running.metric("damaged_total", part="group")
    running.stop()
    rows = database.records()
    assert_chain(rows)
    return rows


def assert_scored(model: Model, row: Any, application: Mapping[str, Any]) -> None:
    """Check that a record has an application as it was scored, and what follows from its probability."""
    features = model.contract.numeric, model.contract.categorical
    assert set(row.inputs) == {feature.name for kind in features for feature in kind}
    for name, value in row.inputs.items():
        expected = application[name]
        assert np.float32(value) == np.float32(expected) if isinstance(value, float) else value == expected, name
    numeric, codes = model.decoder.decode(json.dumps({name: application[name] for name in row.inputs}).encode())
    probability = model.network.score(numeric, codes)[0]
    assert abs(np.float32(row.probability) - probability) < 1e-6
    assert row.decision == (
        "decline" if np.float32(row.probability) >= model.contract.decision_threshold else "approve"
    )
    assert 0 < row.latency_us < 60_000_000


@pytest.mark.parametrize("mode", ["log", "require"])
async def test_what_every_protocol_answers_is_in_the_database_once(
    model: Model, database: DecisionsDatabase, tmp_path: Path, mode: Mode
) -> None:
    rows = applicants(model, {}, {"credit_score": 611}, {"annual_income": 20_001.25})
    answers: dict[str, httpx.Response] = {}
    async with service(model, tmp_path, mode) as http:
        for protocol in PROTOCOLS:
            answers[protocol] = await post(http, sample(protocol, rows), X_Request_Id=f"№ {protocol}")
        # While the segment is written to; the rest follows when the service has ended.
        early = shipped(database, tmp_path)
    found = shipped(database, tmp_path)
    assert [row.id for row in early] == [row.id for row in found[: len(early)]]
    if mode == "require":
        assert len(early) == len(found)
    assert {row.endpoint for row in found} == ENDPOINTS
    assert {(row.role, row.client, row.pod) for row in found} == {("champion", "", POD)}
    for protocol, answer in answers.items():
        own = [row for row in found if row.request_id == f"№ {protocol}"]
        scored = rows[: 1 if protocol == "single" else None]
        assert [row.row for row in own] == list(range(len(scored)))
        assert [np.float32(row.probability) for row in own] == np.array(
            probabilities(protocol, answer), np.float32
        ).tolist()
        for row, application in zip(own, scored, strict=True):
            assert_scored(model, row, application)
        if protocol in WITH_DECISIONS:
            assert [row.decision for row in own] == values_of("decision", protocol, answer)
            assert [row.points for row in own] == list(map(int, values_of("score_points", protocol, answer)))
    assert len(found) == 1 + 3 * (len(PROTOCOLS) - 1)


async def test_single_applications_keep_their_own_id_applicant_reasons_and_role(
    model: Model, database: DecisionsDatabase, tmp_path: Path
) -> None:
    path = "/v1/score"
    first, second = applicants(model, {"applicant_id": "in the body"}, {"employment_status": "Unemployed"})
    async with service(model, tmp_path, "log") as http:
        answers = [
            await http.post(path, json=first, headers={"X-Request-Id": "same"}),
            await http.post(path, json=first, headers={"X-Request-Id": "same", "X-Applicant-Id": "in the header"}),
            await http.post(f"{path}?reasons=2", json=second),
            await http.post(path, json=second, headers={"X-CreditRisk-Forwarded": "stable-pod;shadow"}),
        ]
    found = shipped(database, tmp_path)
    assert [str(row.id) for row in found] == [answer.json()["decision_id"] for answer in answers]
    assert [row.request_id for row in found] == [answer.json()["request_id"] for answer in answers]
    assert [row.applicant_id for row in found] == ["in the body", "in the header", None, None]
    assert [row.role for row in found] == ["champion", "champion", "champion", "shadow"]
    reasons = [reason["code"] for reason in answers[2].json()["reasons"]]
    assert reasons
    assert [row.reasons for row in found] == [None, None, reasons, None]
    with database.connect() as connection:
        ((name, version, digests, contract),) = connection.execute(
            "SELECT name, version, digests, contract FROM model_versions"
        ).fetchall()
    assert (name, version, digests, bytes(contract)) == ("credit-risk", "7", DIGESTS, model.document)


async def test_a_clock_that_is_set_back_changes_neither_the_order_nor_the_ids(
    model: Model, database: DecisionsDatabase, tmp_path: Path
) -> None:
    """Records tell the latest time that their process has seen, until the clock has passed it."""
    minute, hour = 60_000_000_000, 3_600_000_000_000
    now = time.time_ns()
    moments = iter([now, now, now + minute, now - hour, now - hour + minute, now - 2 * hour, now + 2 * minute])
    metrics = Metrics()
    async with decision_log(tmp_path, registry=metrics.registry) as running:
        # By this timer, a millisecond has always passed.
        running.log._ids = DecisionIds(lambda: next(moments), lambda: 0.0)
        app = create_app(Settings(pod_name=POD), ModelSlot(model), metrics, decisions=running.log)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
            (application,) = applicants(model, {})
            answers = [await http.post("/v1/score", json=application) for _ in range(6)]
    found = shipped(database, tmp_path)
    ids = [str(row.id) for row in found]
    assert ids == sorted(ids) == [answer.json()["decision_id"] for answer in answers]
    milliseconds = [(row.id.int >> 80) - now // 1_000_000 for row in found]
    assert milliseconds == [0, *([60_000] * 4), 120_000]


@pytest.mark.parametrize("protocol", ["records", "lines", "columns", "csv", "parquet"])
async def test_refused_rows_have_no_record_and_the_others_keep_number_and_applicant(
    model: Model, database: DecisionsDatabase, tmp_path: Path, protocol: str
) -> None:
    ids = ["a", "b", "c", "d"]
    rows = applicants(model, *({"credit_score": score} for score in (1, 640, 2, 611)))
    named = [{**row, "applicant_id": one} for row, one in zip(rows, ids, strict=True)]
    async with service(model, tmp_path, "log") as http:
        await post(http, sample(protocol, named))
    found = shipped(database, tmp_path)
    assert [(row.row, row.applicant_id) for row in found] == [(1, "b"), (3, "d")]
    for row in found:
        assert_scored(model, row, rows[row.row])
