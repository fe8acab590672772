"""What the decision log keeps of requests: every protocol, whose decision it is, and nothing that was refused."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from scorer.app import create_app, create_management_app
from scorer.decision_log.log import Mode
from scorer.decision_log.writer import Failure, Group
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.contracts import validator
from unit.scorer.decision_segments import Decision, Running, decision_log, decisions
from unit.scorer.protocols import PROTOCOLS, Sample, probabilities, sample

BATCH = "/v1/score/batch"
ENDPOINTS = {
    **dict.fromkeys(PROTOCOLS, "batch"), "single": "score", "lines": "ndjson",
    **dict.fromkeys(("split", "frame-records", "instances", "inputs", "invocations-csv"), "invocations"),
    **dict.fromkeys(("tensors", "binary-tensors"), "open_inference"),
}  # fmt: skip
# Rows without names have no place for an id.
WITH_IDS = [protocol for protocol in PROTOCOLS if protocol != "instances"]
FAILURE = Failure("disk", "no space left on device")


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, Identity("credit-risk", "7", "run", {"model.onnx": "ab"}, {}))


@contextlib.asynccontextmanager
async def service(
    model: Model, folder: Path, mode: Mode = "log", **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Running]]:
    metrics = Metrics()
    async with decision_log(folder, mode, registry=metrics.registry) as running:
        app = create_app(Settings(pod_name="pod-1", **settings), ModelSlot(model), metrics, decisions=running.log)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
            yield http, running


def applicants(model: Model, **changed: object) -> list[dict[str, Any]]:
    """Two applicants, the second one with other values."""
    usual = dict(model.contract.reference_applicant)
    return [usual, {**usual, "credit_score": 611, **changed}]


async def post(http: httpx.AsyncClient, form: Sample, headers: Mapping[str, str] | None = None) -> httpx.Response:
    own = {"Content-Type": form.media_type, **form.headers, **(headers or {})}
    # As most clients send other letters.
    encoded = {name.encode(): value.encode() for name, value in own.items()}
    return await http.post(form.path, content=form.body, headers=encoded)


def with_ids(protocol: str, rows: Sequence[Mapping[str, Any]], ids: Sequence[str | None]) -> Sample:
    return sample(protocol, [{**row, "applicant_id": one} for row, one in zip(rows, ids, strict=True)])


@pytest.mark.parametrize("mode", ["log", "require"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_every_protocol_logs_its_rows_as_they_were_scored(
    model: Model, tmp_path: Path, protocol: str, mode: Mode
) -> None:
    rows = applicants(model)[: 1 if protocol == "single" else 2]
    async with service(model, tmp_path, mode) as (http, _):
        answer = await post(http, sample(protocol, rows), {"X-Request-Id": "r-é"})
        assert answer.status_code == 200, answer.text
        if mode == "require":
            assert len(decisions(tmp_path)) == len(rows)
    found = decisions(tmp_path)
    assert [one.row for one in found] == list(range(len(rows)))
    # What was answered is what was logged, bit by bit.
    assert np.array(probabilities(protocol, answer), np.float32).tolist() == [one.probability for one in found]
    for one, row in zip(found, rows, strict=True):
        event, (numeric, codes) = one.event, model.decoder.decode(json.dumps(row).encode())
        assert (one.numeric, one.codes) == (tuple(numeric[0].tolist()), tuple(codes[0].tolist()))
        assert one.decision == ("decline" if one.probability >= model.contract.decision_threshold else "approve")
        assert (event["endpoint"], one.role, one.request_id) == (ENDPOINTS[protocol], "champion", "r-é")
        assert (one.client, event["version"], one.reasons) == ("", 1, None)
        assert 0 < one.latency < 10_000_000
        assert one.applicant_id is None


@pytest.mark.parametrize("protocol", WITH_IDS)
async def test_every_protocol_logs_the_applicants_ids_where_they_are_given(
    model: Model, tmp_path: Path, protocol: str
) -> None:
    rows = applicants(model)
    async with service(model, tmp_path) as (http, _):
        # CSV has no null.
        missing = "" if "csv" in protocol else None
        if "tensors" in protocol:
            missing = ""
        answer = await post(http, with_ids(protocol, rows, ["Zoë", missing]))
        assert answer.status_code == 200, answer.text
    assert [one.applicant_id for one in decisions(tmp_path)] == (["Zoë"] if protocol == "single" else ["Zoë", None])


@pytest.mark.parametrize("protocol", ["records", "lines", "columns", "csv", "arrow-stream"])
async def test_refused_rows_are_no_decisions_and_the_others_keep_their_numbers(
    model: Model, tmp_path: Path, protocol: str
) -> None:
    good, other = applicants(model)
    rows = [{**good, "credit_score": 1}, good, {**good, "credit_score": 2}, other]
    async with service(model, tmp_path) as (http, _):
        answer = await post(http, with_ids(protocol, rows, ["a", "b", "c", "d"]))
        assert answer.status_code == 200, answer.text
    found = decisions(tmp_path)
    assert [(one.row, one.applicant_id) for one in found] == [(1, "b"), (3, "d")]
    credit_score = [feature.name for feature in model.contract.numeric].index("credit_score")
    assert [one.numeric[credit_score] for one in found] == [good["credit_score"], 611]
    if found[0].event == found[1].event:
        assert uuid.UUID(found[1].id).int == uuid.UUID(found[0].id).int + 1


@pytest.mark.parametrize("protocol", ["split", "tensors", "single"])
async def test_a_request_that_is_refused_as_a_whole_has_no_decision(
    model: Model, tmp_path: Path, protocol: str
) -> None:
    bad = {**applicants(model)[0], "credit_score": 1}
    async with service(model, tmp_path) as (http, _):
        assert (await post(http, sample(protocol, [bad, *applicants(model)]))).status_code == 422
        assert (await post(http, sample("records", [bad, bad]))).status_code == 200
    assert decisions(tmp_path) == []


async def test_lines_are_numbered_through_all_their_events(model: Model, tmp_path: Path) -> None:
    count = 600
    async with service(model, tmp_path) as (http, _):
        answer = await post(http, sample("lines", applicants(model)[:1] * count))
        assert len(answer.text.splitlines()) == count
    found = decisions(tmp_path)
    assert [one.row for one in found] == list(range(count))
    assert {one.request_id for one in found} == {answer.headers["x-request-id"]}
    assert len({one.id for one in found}) == count


async def test_a_single_answer_has_the_id_of_its_record_and_so_has_the_audit_log(
    model: Model, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with service(model, tmp_path, audit_log=True) as (http, _):
        body = {**applicants(model)[0], "employment_status": "Unemployed", "applicant_id": "in the body"}
        answer = await http.post("/v1/score?reasons=2", json=body)
        written = json.loads(capfdbinary.readouterr().out)
    (one,) = decisions(tmp_path)
    score = answer.json()
    assert one.id == score["decision_id"] == written["decision_id"]
    assert uuid.UUID(one.id).version == 7
    assert one.reasons == [reason["code"] for reason in score["reasons"]] != []
    assert (one.points, one.decision, one.applicant_id) == (score["score_points"], score["decision"], "in the body")


async def test_an_applicants_id_in_the_header_has_precedence(model: Model, tmp_path: Path) -> None:
    async with service(model, tmp_path) as (http, _):
        body = {**applicants(model)[0], "applicant_id": "in the body"}
        await http.post("/v1/score", json=body, headers={"X-Applicant-Id": "in the header"})
    (one,) = decisions(tmp_path)
    assert one.applicant_id == "in the header"


async def test_without_the_log_no_answer_has_an_id(model: Model) -> None:
    transport = httpx.ASGITransport(create_app(Settings(), ModelSlot(model), Metrics()))
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        assert "decision_id" not in (await http.post("/v1/score", json=applicants(model)[0])).json()


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([7, None], ["7", None]), ([7.0, float("nan")], ["7", None]), ([True, [1]], [None, None]),
        (["", "x"], [None, "x"]),
    ],
)  # fmt: skip
async def test_numbers_are_ids_too_in_tables(
    model: Model, tmp_path: Path, ids: list[object], kept: list[str | None]
) -> None:
    columns = {name: [row[name] for row in applicants(model)] for name in applicants(model)[0]}
    async with service(model, tmp_path) as (http, _):
        body = json.dumps({"inputs": {**columns, "applicant_id": ids}}).encode()
        answer = await http.post("/invocations", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text
    assert [one.applicant_id for one in decisions(tmp_path)] == kept


async def test_ids_that_do_not_belong_to_the_rows_are_refused(model: Model, tmp_path: Path) -> None:
    columns = {name: [row[name] for row in applicants(model)] for name in applicants(model)[0]}
    async with service(model, tmp_path) as (http, _):
        answer = await http.post(BATCH, json={**columns, "applicant_id": ["only one"]})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {"field": "applicant_id", "problem": "has 1 values", "allowed": "2, as the other columns"}
    ]


def roles(found: Sequence[Decision]) -> list[str]:
    return [one.role for one in found]


@pytest.mark.parametrize(("mark", "role"), [("stable-pod", "canary"), ("stable-pod;shadow", "shadow")])
async def test_a_request_that_a_stable_pod_sent_is_logged_as_the_canarys(
    model: Model, tmp_path: Path, mark: str, role: str
) -> None:
    async with service(model, tmp_path) as (http, _):
        headers = {"X-CreditRisk-Forwarded": mark}
        answer = await http.post("/v1/score", json=applicants(model)[0], headers=headers)
    (one,) = decisions(tmp_path)
    assert (one.role, one.id) == (role, answer.json()["decision_id"])


async def failing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that is written from now on fail."""

    def write(_: Group) -> Failure:
        return FAILURE

    monkeypatch.setattr(running.writer, "write", write)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "lines"])
async def test_required_no_answer_is_sent_if_its_decision_cannot_be_logged(
    model: Model, tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(model, tmp_path, "require") as (http, running):
        await failing(running, monkeypatch)
        answer = await post(http, sample(protocol, applicants(model)))
        scored = running.registry.get_sample_value("scorer_probability_of_default_count")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert (answer.json()["code"], answer.headers["retry-after"]) == ("decision-not-logged", "1")
    # What was not answered is not counted as answered.
    assert (decisions(tmp_path), scored) == ([], 0)


async def test_required_a_stream_ends_with_the_problem_before_the_lines_that_are_not_logged(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(model, tmp_path, "require") as (http, running):
        await failing(running, monkeypatch)
        answer = await post(http, sample("lines", applicants(model) * 200))
    (line,) = answer.text.splitlines()
    assert json.loads(line)["problem"]["code"] == "decision-not-logged"
    assert decisions(tmp_path) == []


async def test_not_required_answers_do_not_depend_on_the_log_and_a_ready_pod_says_what_it_cannot_do(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(model, tmp_path) as (http, running):
        management = httpx.ASGITransport(create_management_app(ModelSlot(model), Metrics(), running.log))
        async with httpx.AsyncClient(transport=management, base_url="http://scoring") as other:
            assert (await other.get("/readyz")).json() == {"status": "ready", "code": "ready"}
            await failing(running, monkeypatch)
            for protocol in ("single", "records"):
                assert (await post(http, sample(protocol, applicants(model)))).status_code == 200
            while running.log.problem is None:
                await http.post("/v1/score", json=applicants(model)[0])
            ready = await other.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (200, "ready")
    assert "(disk): no space left on device" in ready.json()["detail"]
    validator("readiness").validate(ready.json())
