"""The Registry port: one call per pointer, three kinds of answers, and downloads that are verified."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import aiohttp
import pytest
from aiohttp import web

from promoter.adapters.mlflow import MlflowRegistry
from promoter.api.spec import ModelRef
from promoter.errors import ArtifactsError, PermanentError, RetryableError


@pytest.fixture
async def mlflow() -> AsyncIterator[tuple[MlflowRegistry, list[tuple[str, dict[str, str]]], dict[str, web.Response]]]:
    calls: list[tuple[str, dict[str, str]]] = []
    answers: dict[str, web.Response] = {}

    async def answer(request: web.Request) -> web.Response:
        body = await request.json() if request.method == "POST" else {}
        calls.append((request.path.removeprefix("/api/2.0/mlflow/"), {**request.query, **body}))
        last = request.path.rpartition("/")[2]
        return answers[last if last in answers else "next"]

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield MlflowRegistry(session, f"http://127.0.0.1:{runner.addresses[0][1]}/"), calls, answers
    await runner.cleanup()


FILES = {"model.onnx": b"graph" * 1000, "contract.json": b"{}"}


class Store:
    """An MLflow server with one version; `answers` override what it answers by the last part of the path."""

    def __init__(self) -> None:
        self.answers: dict[str, web.Response] = {}
        self.tags = {f"sha256.{name}": sha256(content).hexdigest() for name, content in FILES.items()}
        self.location = "mlflow-artifacts:/1/a b/model"
        self.paths: list[str] = []
        self.user_id = ""
        self.run: dict[str, object] = {}

    async def answer(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        last = request.path.rpartition("/")[2]
        if last in self.answers:
            return self.answers[last]
        if last in FILES:
            return web.Response(body=FILES[last])
        if last == "get-download-uri":
            return web.json_response({"artifact_uri": self.location})
        if request.path.endswith("runs/get"):
            return web.json_response({"run": self.run})
        tags = [{"key": key, "value": value} for key, value in self.tags.items()]
        return web.json_response({"model_version": {
            "version": "7", "run_id": "run", "user_id": self.user_id, "tags": tags}})  # fmt: skip


@pytest.fixture
async def store() -> AsyncIterator[tuple[MlflowRegistry, Store]]:
    found, app = Store(), web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield MlflowRegistry(session, f"http://127.0.0.1:{runner.addresses[0][1]}"), found
    await runner.cleanup()


StoredVersion = tuple[MlflowRegistry, Store]
Mlflow = tuple[MlflowRegistry, list[tuple[str, dict[str, str]]], dict[str, web.Response]]


@pytest.mark.parametrize(
    ("pointer", "path", "answer"),
    [
        ({}, "registered-models/alias", {"model_version": {"version": "7"}}),
        ({"version": "7"}, "model-versions/get", {"model_version": {"version": "7"}}),
        ({"stage": "Production"}, "registered-models/get-latest-versions", {"model_versions": [{"version": "7"}]}),
    ],
)
async def test_alias_stage_and_pin_cost_one_call_each(
    mlflow: Mlflow, pointer: dict[str, str], path: str, answer: dict[str, object]
) -> None:
    registry, calls, answers = mlflow
    answers["next"] = web.json_response(answer)
    assert await registry.desired_version(ModelRef(name="loans", **pointer)) == "7"
    assert [call[0] for call in calls] == [path]
    assert calls[0][1]["name"] == "loans"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}), None),
        ((400, {"error_code": "INVALID_PARAMETER_VALUE"}), None),
        ((200, {"model_versions": []}), None),
        ((200, {}), None),
        ((503, {"error_code": "TEMPORARILY_UNAVAILABLE"}), RetryableError),
        ((429, {}), RetryableError),
        ((403, {"error_code": "PERMISSION_DENIED"}), PermanentError),
        ((404, "<html>"), RetryableError),
        ((200, {"model_version": {"name": "no version"}}), RetryableError),
        ((200, ["a list"]), RetryableError),
    ],
)  # fmt: skip
async def test_absent_unavailable_and_refused_are_three_different_answers(
    mlflow: Mlflow, answer: tuple[int, object], outcome: type[Exception] | None
) -> None:
    registry, _, answers = mlflow
    status, body = answer
    answers["next"] = web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(
        body, status=status)  # fmt: skip
    if outcome is None:
        assert await registry.desired_version(ModelRef(name="loans")) is None
    else:
        with pytest.raises(outcome):
            await registry.desired_version(ModelRef(name="loans"))


@pytest.mark.parametrize(
    ("answer", "exists"),
    [({"model_version": {"version": "7"}}, True), ({"error_code": "RESOURCE_DOES_NOT_EXIST"}, False)],
)
async def test_a_version_exists_or_not(mlflow: Mlflow, answer: dict[str, object], exists: bool) -> None:
    registry, calls, answers = mlflow
    answers["next"] = web.json_response(answer, status=200 if exists else 404)
    assert await registry.version_exists("loans", "7") is exists
    assert calls == [("model-versions/get", {"name": "loans", "version": "7"})]


async def test_an_unreachable_registry_does_not_mean_that_a_version_is_gone(mlflow: Mlflow) -> None:
    registry, _, answers = mlflow
    answers["next"] = web.json_response({}, status=503)
    with pytest.raises(RetryableError, match="503"):
        await registry.version_exists("loans", "7")


async def test_a_download_has_the_files_and_what_a_pod_needs_to_know(store: StoredVersion) -> None:
    registry, found = store
    found.tags |= {"metric.roc_auc": "0.81", "metric.broken": "much", "metric.nan": "nan", "note": ""}
    files = await registry.download("loans", "7")
    assert (files.name, files.version, files.run_id, files.content) == ("loans", "7", "run", FILES)
    assert files.digests == {name: sha256(content).hexdigest() for name, content in FILES.items()}
    assert files.metrics == {"roc_auc": 0.81}
    assert "/api/2.0/mlflow-artifacts/artifacts/1/a b/model/model.onnx" in found.paths


@pytest.mark.parametrize(
    ("tag", "said"),
    [("0" * 64, "its tag says 0000"), (None, r"the version has no tag sha256\.model\.onnx")],
)
async def test_files_that_differ_from_their_digest_are_rejected(
    store: StoredVersion, tag: str | None, said: str
) -> None:
    registry, found = store
    del found.tags["sha256.model.onnx"]
    if tag:
        found.tags["sha256.model.onnx"] = tag
    with pytest.raises(ArtifactsError, match=f"model.onnx has SHA-256 [0-9a-f]+, {said}") as raised:
        await registry.download("loans", "7")
    assert raised.value.reason == "Rejected"


@pytest.mark.parametrize("chunked", [False, True])
async def test_files_that_are_too_large_are_not_downloaded(store: StoredVersion, chunked: bool) -> None:
    registry, found = store
    found.answers["contract.json"] = web.Response(body=b"x" * (8 << 20))
    if chunked:
        found.answers["contract.json"].enable_chunked_encoding()
    with pytest.raises(ArtifactsError, match="the files take more than 8 MiB") as raised:
        await registry.download("loans", "7")
    assert raised.value.reason == "TooLarge"


@pytest.mark.parametrize(
    ("last", "answer", "reason"),
    [
        ("get", (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}), "VersionNotFound"),
        ("model.onnx", (404, {}), "Rejected"),
        ("get-download-uri", (200, {"artifact_uri": "s3://bucket/1"}), "Refused"),
    ],
)
async def test_what_is_gone_or_out_of_reach_has_its_own_reason(
    store: StoredVersion, last: str, answer: tuple[int, object], reason: str
) -> None:
    registry, found = store
    found.answers[last] = web.json_response(answer[1], status=answer[0])
    with pytest.raises(ArtifactsError) as raised:
        await registry.download("loans", "7")
    assert raised.value.reason == reason


@pytest.mark.parametrize("last", ["get", "get-download-uri", "model.onnx", "contract.json"])
async def test_a_busy_registry_or_object_store_is_retried(store: StoredVersion, last: str) -> None:
    registry, found = store
    found.answers[last] = web.json_response({}, status=503)
    with pytest.raises(RetryableError, match="503"):
        await registry.download("loans", "7")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("8 training run 4f", "training run 4f"),
        # The pointer was moved on by somebody who did not write the tag.
        ("7 training run 3e", None),
        ("88 training run 4f", None),
        ("8", None),
        (None, None),
    ],
)
async def test_who_moved_the_pointer_is_known_if_the_tag_is_about_its_version(
    mlflow: Mlflow, tag: str | None, expected: str | None
) -> None:
    registry, calls, answers = mlflow
    tags = [{"key": "creditrisk.io.pointer", "value": tag}] if tag else []
    answers["next"] = web.json_response({"registered_model": {"name": "credit-risk", "tags": tags}})
    assert await registry.moved_by(ModelRef(name="credit-risk"), "8") == expected
    assert calls == [("registered-models/get", {"name": "credit-risk"})]


async def test_nobody_is_known_to_have_moved_the_pointer_of_a_model_that_is_gone(mlflow: Mlflow) -> None:
    registry, _, answers = mlflow
    answers["next"] = web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST"}, status=404)
    assert await registry.moved_by(ModelRef(name="credit-risk"), "8") is None


async def test_who_trained_and_who_registered_a_version_is_read_from_it_and_its_run(store: StoredVersion) -> None:
    registry, server = store
    server.user_id = "dave"
    server.run = {"info": {"user_id": ""}, "data": {"tags": [{"key": "mlflow.user", "value": "carol@bank.example"}]}}
    assert await registry.trained_by("credit-risk", "7") == ("dave", "carol@bank.example")
    assert [path.rpartition("mlflow/")[2] for path in server.paths] == ["model-versions/get", "runs/get"]


async def test_nobody_is_known_to_have_trained_a_version_that_is_gone(mlflow: Mlflow) -> None:
    registry, _, answers = mlflow
    answers["next"] = web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST"}, status=404)
    assert await registry.trained_by("credit-risk", "7") == ()


async def test_without_an_experiment_there_are_no_training_runs(mlflow: Mlflow) -> None:
    registry, _, answers = mlflow
    answers["next"] = web.json_response({"error_code": "RESOURCE_DOES_NOT_EXIST"}, status=404)
    assert set((await registry.last_runs("credit-risk")).values()) == {0.0}


async def test_runs_that_lack_something_are_no_answer(mlflow: Mlflow) -> None:
    registry, _, answers = mlflow
    answers["get-by-name"] = web.json_response({"experiment": {"experiment_id": "1"}})
    answers["search"] = web.json_response({"runs": [{"info": {}}]})
    with pytest.raises(RetryableError, match="lack something"):
        await registry.last_runs("credit-risk")
