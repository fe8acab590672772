"""The operator as a process, against an API server, a registry and pods that speak the real protocols in memory."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest
from aiohttp import web

from promoter.admission import PATH
from unit.promoter.test_admission import issued, post, review
from unit.promoter.test_approvals import OFFICERS

Document = dict[str, Any]
PROMOTIONS = "/apis/creditrisk.io/v1alpha1/namespaces/bank/modelpromotions"
MP, YOUNGER = f"{PROMOTIONS}/loans", f"{PROMOTIONS}/cards"
DEPLOYMENTS = "/apis/apps/v1/namespaces/bank/deployments"
CORE = "/api/v1/namespaces/bank"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/bank/horizontalpodautoscalers"
INCOME = {"name": "income", "kind": "numeric", "unit": "USD", "minimum": 0, "maximum": 9, "reason_code": "R01"}
CONTRACT = {"format_version": 2, "features": [INCOME], "ignored": []}
FILES = {"model.onnx": b"graph", "contract.json": b"{}"}
SOURCES = Path(__file__).parents[3] / "operator" / "src"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def copied(backend: Backend, name: str) -> str:
    """Return the version whose files the pods of a Deployment mount."""
    volumes = backend.objects[f"{DEPLOYMENTS}/{name}"]["spec"]["template"]["spec"].get("volumes", [])
    names = [source["configMap"]["name"] for volume in volumes for source in volume["projected"]["sources"]]
    return ", ".join(backend.objects[f"{CORE}/configmaps/{n}"]["metadata"]["labels"]["creditrisk.io/model-version"]
                     for n in names)  # fmt: skip


def merge(old: Document, new: Document) -> Document:
    result = copy.deepcopy(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merge(result.get(key) or {}, value)
        elif key in {"containers", "volumes", "volumeMounts"}:
            result[key] = merge_by_name(result.get(key) or [], value)
        else:
            result[key] = value
    return result


def merge_by_name(old: list[Document], new: list[Document]) -> list[Document]:
    """Merge lists whose items a server-side apply tells apart by their names."""
    changes = {item["name"]: item for item in new}
    merged = [merge(item, changes.pop(item["name"], {})) for item in old]
    return [*merged, *changes.values()]


class Backend:
    """API server, registry and the scoring pods."""

    def __init__(self) -> None:
        self.objects: dict[str, Document] = {}
        # Uids of promotions.
        self.deleted: set[str] = set()
        self.events: list[Document] = []
        self.tags: dict[str, str] = {}
        self.alias, self.polls = "2", 0
        self.canary_answers = 0
        self.watchers: list[asyncio.Queue[tuple[str, Document]]] = []
        self.port = 0
        self.calls: list[tuple[str, str]] = []
        self.timeline: dict[str, Document] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api", self.versions)
        app.router.add_get("/apis", self.groups)
        for path in ("/api/v1", "/apis/apiextensions.k8s.io/v1", "/apis/creditrisk.io/v1alpha1"):
            app.router.add_get(path, self.resources)
        app.router.add_get(PROMOTIONS, self.promotions)
        app.router.add_get(f"{CORE}/pods", self.pods)
        app.router.add_post(f"{CORE}/events", self.event)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/v1/model", self.model)
        app.router.add_get("/api/2.0/mlflow/registered-models/alias", self.pointer)
        app.router.add_post("/api/2.0/mlflow/model-versions/set-tag", self.tag)
        app.router.add_get("/api/2.0/mlflow/model-versions/get", self.version)
        app.router.add_get("/api/2.0/mlflow/model-versions/get-download-uri", self.location)
        app.router.add_get("/api/2.0/mlflow-artifacts/artifacts/{path:.*}", self.artifact)
        app.router.add_get(f"{CORE}/configmaps", self.config_maps)
        app.router.add_post(f"{CORE}/configmaps", self.config_map)
        app.router.add_get(AUTOSCALERS, self.autoscalers)
        app.router.add_get("/api/2.0/mlflow/registered-models/get", self.registered_model)
        app.router.add_post("/v1/models/credit-risk/timeline", self.timeline_event)
        app.router.add_route("*", "/{path:.*}", self.object)
        return app

    async def versions(self, _: web.Request) -> web.Response:
        return web.json_response({"versions": ["v1"]})

    async def model(self, _: web.Request) -> web.Response:
        return web.json_response({"contract": CONTRACT})

    async def groups(self, _: web.Request) -> web.Response:
        found = []
        for group, version in (("creditrisk.io", "v1alpha1"), ("apiextensions.k8s.io", "v1")):
            versions = [{"groupVersion": f"{group}/{version}", "version": version}]
            found.append({"name": group, "versions": versions, "preferredVersion": versions[0]})
        return web.json_response({"groups": found})

    async def resources(self, request: web.Request) -> web.Response:
        kinds = {"modelpromotions": "ModelPromotion", "customresourcedefinitions": "CustomResourceDefinition",
                 "namespaces": "Namespace", "events": "Event"}  # fmt: skip
        own = {"v1": ["namespaces", "events"], "apiextensions.k8s.io": ["customresourcedefinitions"]}
        names = own.get(request.path.split("/")[2], ["modelpromotions"])
        verbs = ["get", "list", "watch", "patch"]
        return web.json_response({"resources": [
            {"name": name, "kind": kinds[name], "singularName": kinds[name].lower(), "namespaced": True, "verbs": verbs}
            for name in names
        ]})  # fmt: skip

    async def promotions(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "true":
            items = [found for path, found in self.objects.items() if path.startswith(PROMOTIONS)]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        stream, queue = web.StreamResponse(), asyncio.Queue[tuple[str, Document]]()
        self.watchers.append(queue)
        await stream.prepare(request)
        while True:
            kind, document = await queue.get()
            await stream.write(json.dumps({"type": kind, "object": document}).encode() + b"\n")

    async def pointer(self, _: web.Request) -> web.Response:
        self.polls += 1
        return web.json_response({"model_version": {"name": "credit-risk", "version": self.alias}})

    async def version(self, request: web.Request) -> web.Response:
        tags = [{"key": f"sha256.{name}", "value": sha256(text)} for name, text in FILES.items()]
        found = {"name": "credit-risk", "version": request.query["version"], "run_id": "run", "tags": tags}
        return web.json_response({"model_version": found})

    async def location(self, request: web.Request) -> web.Response:
        return web.json_response({"artifact_uri": "mlflow-artifacts:/1/model"})

    async def artifact(self, request: web.Request) -> web.Response:
        return web.Response(body=FILES[request.match_info["path"].rpartition("/")[2]])

    async def config_maps(self, request: web.Request) -> web.Response:
        label, _, uid = request.query["labelSelector"].partition("=")
        found = [item for path, item in self.objects.items() if path.startswith(f"{CORE}/configmaps/")]
        return web.json_response({"items": [
            item for item in found if item["metadata"].get("labels", {}).get(label) == uid
        ]})  # fmt: skip

    async def autoscalers(self, _: web.Request) -> web.Response:
        items = [item for path, item in self.objects.items() if path.startswith(f"{AUTOSCALERS}/")]
        return web.json_response({"items": items})

    async def config_map(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.put(f"{CORE}/configmaps/{body['metadata']['name']}", body)
        return web.json_response(body, status=201)

    async def tag(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.tags[f"{body['version']}/{body['key']}"] = body["value"]
        return web.json_response({})

    async def event(self, request: web.Request) -> web.Response:
        self.events.append(await request.json())
        return web.json_response({}, status=201)

    async def registered_model(self, _: web.Request) -> web.Response:
        tags = [{"key": "creditrisk.io.pointer", "value": "2 training run 4f"}]
        return web.json_response({"registered_model": {"name": "credit-risk", "tags": tags}})

    async def timeline_event(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer k-operator":
            return web.json_response({}, status=401)
        body = await request.json()
        assert self.timeline.setdefault(body["event_id"], body) == body, "an event was changed"
        return web.json_response({})

    async def metrics(self, _: web.Request) -> web.Response:
        route = self.route()
        lines = [f"scorer_route_generation {route.get('generation', 0)}"]
        if route.get("canary"):
            self.canary_answers += 30
        for arm, version in (("stable", "1"), ("canary", "2")):
            labels = f'arm="{arm}",version="{version}",outcome="ok"'
            lines.append(f"scorer_arm_requests_total{{{labels}}} {self.canary_answers}")
        return web.Response(text="\n".join(lines) + "\n")

    async def pods(self, request: web.Request) -> web.Response:
        track = dict(part.split("=") for part in request.query["labelSelector"].split(","))["creditrisk.io/track"]
        name = "scoring" if track == "stable" else "scoring-canary"
        template = self.objects[f"{DEPLOYMENTS}/{name}"]["spec"]["template"]
        pod = self.objects.setdefault(f"{CORE}/pods/{name}-0", {"metadata": {"name": f"{name}-0"}})
        pod["metadata"] = merge(template["metadata"], pod["metadata"])
        pod["metadata"]["annotations"] |= template["metadata"].get("annotations", {})
        pod["status"] = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        return web.json_response({"items": [pod]})

    async def object(self, request: web.Request) -> web.Response:
        path = request.path.removesuffix("/status")
        self.calls.append((request.method, request.path))
        if request.method == "DELETE":
            return self._answer(self.objects.pop(path, None))
        if request.method == "GET":
            return self._answer(self.objects.get(path))
        body, kind = json.loads(await request.read()), request.content_type
        if kind == "application/json-patch+json" and request.path.endswith("/status"):
            new = self.objects[path] | {"status": body[1]["value"]}
        elif kind == "application/json-patch+json":
            # Only an annotation is ever tested and removed this way.
            name = body[0]["path"].rpartition("/")[2].replace("~1", "/")
            if self.objects[path]["metadata"]["annotations"].get(name) != body[0]["value"]:
                return web.json_response({"message": "the test failed"}, status=422)
            new = merge(self.objects[path], {"metadata": {"annotations": {name: None}}})
        elif kind == "application/apply-patch+yaml" or path in self.objects:
            new = merge(self.objects.get(path, {}), body)
        else:
            return self._answer(None)
        if "deployments" in path:
            count = new["spec"]["replicas"]
            new["status"] = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), count)
        self.put(path, new)
        return self._answer(new)

    def put(self, path: str, new: Document) -> None:
        self.objects[path] = new
        self.collect_garbage()
        if path.startswith(PROMOTIONS):
            self.notify("MODIFIED", new)

    def notify(self, kind: str, document: Document) -> None:
        for watcher in self.watchers:
            watcher.put_nowait((kind, document))

    def delete_promotion(self, path: str) -> None:
        """Delete a promotion and, as a cluster does, what it owns."""
        deleted = self.objects.pop(path)
        self.deleted.add(deleted["metadata"]["uid"])
        self.collect_garbage()
        self.notify("DELETED", deleted)

    def collect_garbage(self) -> None:
        """Delete what deleted promotions own, also what an operator wrote that had not noticed yet."""
        for name, found in list(self.objects.items()):
            if self.deleted & {owner["uid"] for owner in found["metadata"].get("ownerReferences", [])}:
                del self.objects[name]

    @staticmethod
    def _answer(document: Document | None) -> web.Response:
        return web.json_response(document) if document else web.json_response({"message": "not found"}, status=404)

    def route(self) -> Document:
        found = self.objects.get(f"{CORE}/configmaps/scoring-route", {})
        return dict(json.loads(found.get("data", {}).get("route.json", "{}")))

    @property
    def status(self) -> Document:
        return self.status_of(MP)

    def status_of(self, path: str) -> Document:
        return dict(self.objects.get(path, {}).get("status", {}))

    def ready_reason(self, path: str) -> str:
        found = [c["reason"] for c in self.status_of(path).get("conditions", []) if c["type"] == "Ready"]
        return str(found[0]) if found else ""

    def act(self, action: str) -> None:
        self.put(MP, merge(self.objects[MP], {"metadata": {"annotations": {"creditrisk.io/action": action}}}))


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    runner = web.AppRunner(backend.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    backend.port = runner.addresses[0][1]
    labels = {"app.kubernetes.io/name": "api", "creditrisk.io/track": "stable"}
    ports = [
        {"name": "http", "containerPort": backend.port},
        {"name": "management", "containerPort": backend.port},
    ]
    template = {
        "metadata": {"labels": labels, "annotations": {"creditrisk.io/model-version": "1"}},
        "spec": {"containers": [{"name": "scorer", "ports": ports}]},
    }
    backend.objects[f"{DEPLOYMENTS}/scoring"] = {
        "kind": "Deployment",
        "metadata": {"name": "scoring"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        "status": dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1),
    }
    backend.objects[f"{AUTOSCALERS}/scoring"] = {
        "metadata": {"namespace": "bank", "name": "scoring"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "scoring"}},
    }
    backend.objects[MP] = {
        "apiVersion": "creditrisk.io/v1alpha1", "kind": "ModelPromotion",
        "metadata": {"name": "loans", "namespace": "bank", "uid": "u-1", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "model": {"name": "credit-risk"},
            "steps": [{"weight": 10, "duration": "200ms"}, {"pause": {}}, {"weight": 50, "duration": "200ms"}],
            "analysis": {"interval": "100ms", "minSamples": 50, "metrics": [{"type": "ErrorRate"}]},
        },
    }  # fmt: skip
    yield backend
    await runner.cleanup()


class Operator:
    def __init__(self, backend: Backend, folder: Path) -> None:
        self.backend, self.folder, self.port = backend, folder, 0
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self, **settings: str) -> asyncio.subprocess.Process:
        config = self.folder / "kubeconfig"
        config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.backend.port}"}}],
            "users": [{"name": "u", "user": {}}],
        }))  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        variables = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "KUBECONFIG": str(config),
            "PROMOTER_REGISTRY_URL": f"http://127.0.0.1:{self.backend.port}", "PROMOTER_NAMESPACES": "bank",
            "PROMOTER_POLL_SECONDS": "0.3", "PROMOTER_TICK_SECONDS": "0.1", "PROMOTER_PORT": str(self.port), **settings,
        }  # fmt: skip
        log = (self.folder / "operator.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "promoter", env=variables, stdout=log, stderr=log
        )
        self.processes.append(process)
        return process

    async def until(self, what: str, holds: Callable[[Backend], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not holds(self.backend):
            log = (self.folder / "operator.log").read_text()[-3000:]
            assert time.monotonic() < deadline, f"never {what}; status {self.backend.status}; log:\n{log}"
            await asyncio.sleep(0.05)


@pytest.fixture
async def operator(backend: Backend, tmp_path: Path) -> AsyncIterator[Operator]:
    operator = Operator(backend, tmp_path)
    yield operator
    for process in operator.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.slow
async def test_a_proxy_for_the_outside_is_not_used_for_the_api_server_and_the_registry(
    backend: Backend, operator: Operator
) -> None:
    await operator.start(HTTP_PROXY="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY="")
    await operator.until("paused", lambda t: t.status.get("phase") == "Paused")
    assert backend.status["verifiedWeight"] == 10


@pytest.mark.slow
async def test_a_version_is_promoted_although_the_operator_is_killed_in_between(
    backend: Backend, operator: Operator
) -> None:
    process = await operator.start()
    await operator.until("paused", lambda t: t.status.get("phase") == "Paused")
    assert backend.route()["canary"]["weight"] == 10
    assert backend.status["verifiedWeight"] == 10
    canary = backend.objects[f"{DEPLOYMENTS}/scoring-canary"]
    assert canary["spec"]["template"]["metadata"]["annotations"]["creditrisk.io/model-version"] == "2"
    assert canary["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert (copied(backend, "scoring"), copied(backend, "scoring-canary")) == ("1", "2")
    autoscaler = backend.objects[f"{AUTOSCALERS}/scoring"]
    assert autoscaler["spec"]["behavior"] == {"scaleDown": {"selectPolicy": "Disabled"}}
    assert autoscaler["metadata"]["annotations"]["creditrisk.io/scale-in-disabled-for"] == "u-1"
    assert backend.objects[f"{CORE}/services/scoring-canary"]["spec"]["selector"]["creditrisk.io/track"] == "canary"
    process.kill()
    await process.wait()

    polls = backend.polls
    process = await operator.start()
    await operator.until("polled by the new operator", lambda b: b.polls >= polls + 3)
    assert backend.status["phase"] == "Paused"
    backend.act("resume")
    await operator.until("idle", lambda t: t.status["phase"] == "Idle" and t.status["stableVersion"] == "2")
    annotations = backend.objects[f"{DEPLOYMENTS}/scoring"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["creditrisk.io/model-version"] == "2"
    assert copied(backend, "scoring") == "2"
    assert {copy["version"] for copy in backend.status["artifacts"]} == {"1", "2"}
    assert f"{DEPLOYMENTS}/scoring-canary" not in backend.objects
    assert "canary" not in backend.route()
    assert backend.tags["2/creditrisk.io.rollout"] == "promoted"
    assert "creditrisk.io/action" not in backend.objects[MP]["metadata"]["annotations"]
    promoted = {c["type"]: c["status"] for c in backend.status["conditions"]}
    assert promoted["Promoted"] == "True"
    reasons = {event["reason"] for event in backend.events}
    assert reasons >= {"RolloutStarted", "StepStarted", "Paused", "Resumed", "Promoting", "Promoted"}
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 15) == 0


@pytest.mark.slow
async def test_the_timeline_is_complete_although_the_operator_is_killed_and_the_service_is_away(
    backend: Backend, operator: Operator, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("not yet")
    settings = {
        "PROMOTER_TIMELINE_URL": f"http://127.0.0.1:{backend.port}", "PROMOTER_TIMELINE_KEY_FILE": str(key)
    }  # fmt: skip
    process = await operator.start(**settings)
    await operator.until("paused", lambda t: t.status.get("phase") == "Paused")
    process.kill()
    await process.wait()
    assert backend.timeline == {}
    assert backend.status["timeline"]["pending"]
    key.write_text("k-operator")
    await operator.start(**settings)
    backend.act("resume")
    await operator.until("idle", lambda t: t.status["phase"] == "Idle" and t.status["stableVersion"] == "2")
    await operator.until("delivered", lambda t: not t.status["timeline"]["pending"])
    events = sorted(backend.timeline.values(), key=lambda event: (event["happened_at"], event["event_id"]))
    kinds = [event["kind"] for event in events]
    assert kinds[:2] == ["Promoted", "PointerMoved"], "adopted first"
    assert {"RolloutStarted", "WeightChanged", "ActedManually", "Judged"} < set(kinds)
    moved = events[1]
    assert (moved["version"], moved["moved_by"], moved["stable_version"]) == ("2", "training run 4f", "1")
    last = events[-1]
    assert (last["stable_version"], last.get("canary_version"), last["weight"]) == ("2", None, 0)
    promoted = next(event for event in events if event["kind"] == "Promoted" and event["version"] == "2")
    assert promoted["judgment"]["verdict"] == "Successful"
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{operator.port}") as session,
        session.get("/metrics") as response,
    ):
        assert re.search(r'promoter_timeline_events_total{outcome="delivered"} \d', await response.text())


@pytest.mark.slow
async def test_probes_answer_and_an_invalid_spec_is_reported_and_left_alone(
    backend: Backend, operator: Operator
) -> None:
    backend.objects[MP]["spec"]["steps"] = [{"pause": {}}]
    process = await operator.start()
    await operator.until("reported", lambda t: "conditions" in t.status)
    condition = next(c for c in backend.status["conditions"] if c["type"] == "Ready")
    assert (condition["status"], condition["reason"]) == ("False", "InvalidSpec")
    assert condition["message"] == "spec.steps: at least one step needs a weight"
    assert not [path for method, path in backend.calls if method != "GET" and not path.endswith("/status")]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{operator.port}") as session:
        for path, text in (("/healthz", "alive"), ("/readyz", "ready"), ("/metrics", "promoter_poll_age_seconds")):
            async with session.get(path) as response:
                assert response.status == 200
                assert re.search(text, await response.text())
    # It is reported once, whatever else happens to the object until it is corrected.
    for number in range(3):
        backend.put(MP, merge(backend.objects[MP], {"metadata": {"labels": {"number": str(number)}}}))
    steps = [{"weight": 10, "duration": "1s"}, {"pause": {}}]
    backend.put(MP, merge(backend.objects[MP], {"metadata": {"generation": 2}, "spec": {"steps": steps}}))
    await operator.until("corrected", lambda t: t.status.get("phase") == "Paused")
    assert [event["reason"] for event in backend.events].count("InvalidSpec") == 1
    process.terminate()
    await process.wait()


@pytest.mark.slow
async def test_the_page_shows_what_the_operator_has_in_memory(
    backend: Backend, operator: Operator, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "on-call").write_text(hashlib.sha256(b"k-1").hexdigest())
    # The second weight lasts: on a busy machine, the page might never draw one that is over in a second.
    steps = [{"weight": 10, "duration": "1s"}, {"pause": {}}, {"weight": 50, "duration": "1s"}, {"pause": {}}]
    backend.objects[MP]["spec"]["steps"] = steps
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await operator.start(PROMOTER_PAGE_PORT=str(port), PROMOTER_PAGE_PATH="/promotions",
                                   PROMOTER_PAGE_KEYS=str(tmp_path / "keys"))  # fmt: skip
    await operator.until("paused", lambda t: t.status.get("phase") == "Paused")
    headers = {"Authorization": "Bearer k-1"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path, status in (("/promotions/", 401), ("/metrics", 401)):
            async with session.get(path) as response:
                assert response.status == status
        async with session.get("/metrics", headers=headers) as response:
            assert response.status == 404
        async with session.get("/promotions/bank/loans", headers=headers) as response:
            whole = await response.text()
        for words in ("10 % of the applicants are answered by the canary", "ErrorRate", "RolloutStarted", "Paused"):
            assert words in whole
        async with session.get("/promotions/bank/loans/events", headers=headers) as followed:
            seen = ""
            async with asyncio.timeout(60):
                while "Version 1" not in (seen := (await followed.content.readline()).decode()):
                    pass
                assert "Paused" in seen
                backend.act("resume")
                while "50 % of the applicants" not in (seen := (await followed.content.readline()).decode()):
                    assert followed.status == 200
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 15) == 0


@pytest.mark.slow
async def test_the_status_of_an_older_operator_is_rewritten_by_the_first_write(
    backend: Backend, operator: Operator
) -> None:
    backend.alias = "1"
    backend.objects[MP]["status"] = {
        "phase": "Idle", "stableVersion": "1", "desiredVersion": "1", "phaseStartedAt": 1764300000.25,
        "history": [{"version": "1", "outcome": "Promoted", "reason": "Promoted", "at": 1764300000.25}],
        "route": {"generation": 5, "stableVersion": "1", "raisedFrom": 0, "raisedAt": 0.0},
    }  # fmt: skip
    process = await operator.start()
    await operator.until("rewritten", lambda b: b.status["phaseStartedAt"] == "2025-11-28T03:20:00.250Z")
    assert next(path for method, path in backend.calls if method != "GET") == f"{MP}/status"
    assert backend.status["history"][0]["at"] == "2025-11-28T03:20:00.250Z"
    assert (backend.status["phase"], backend.status["route"]["generation"]) == ("Idle", 5)
    process.terminate()
    await process.wait()


@pytest.mark.slow
async def test_the_younger_promotion_of_a_target_waits_for_the_older_one_to_be_deleted(
    backend: Backend, operator: Operator
) -> None:
    backend.alias = "1"
    older = backend.objects.pop(MP)
    younger = merge(older, {"metadata": {"name": "cards", "uid": "u-2", "creationTimestamp": "2026-02-01T00:00:00Z"}})
    # Listed first, and refused all the same.
    backend.objects |= {YOUNGER: younger, MP: merge(older, {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}})}
    process = await operator.start()
    await operator.until("refused", lambda b: b.ready_reason(YOUNGER) == "TargetTaken")
    await operator.until("served", lambda b: b.ready_reason(MP) == "Serving")
    assert "ModelPromotion loans" in backend.status_of(YOUNGER)["message"]
    backend.delete_promotion(MP)
    await operator.until("taken over", lambda b: b.ready_reason(YOUNGER) == "Serving")
    reasons = [(event["involvedObject"]["name"], event["reason"]) for event in backend.events]
    assert reasons.count(("cards", "TargetTaken")) == 1
    assert ("loans", "TargetTaken") not in reasons
    process.terminate()
    await process.wait()


def waiting_for_approval(backend: Backend) -> bool:
    return bool(backend.status.get("phase") == "Paused" and "waiting for approvals" in backend.status["message"])


def approved_by(user: str, backend: Backend) -> bool:
    return user in json.dumps(backend.status["approvals"])


@pytest.mark.slow
async def test_an_approval_that_the_webhook_admitted_lets_the_rollout_go_on(
    backend: Backend, operator: Operator, tmp_path: Path
) -> None:
    asked = {"approvals": {"groups": [OFFICERS]}}
    backend.objects[MP]["spec"]["steps"] = [{"weight": 10, "duration": "200ms"}, {"pause": asked}]
    carol = [{"key": "mlflow.user", "value": "carol"}]
    backend.objects["/api/2.0/mlflow/runs/get"] = {"metadata": {}, "run": {"data": {"tags": carol}}}
    given: Document = {"metadata": {}, "items": []}
    backend.objects["/apis/creditrisk.io/v1alpha1/namespaces/bank/promotionapprovals"] = given
    folder = issued(tmp_path / "certificate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    await operator.start(PROMOTER_APPROVALS_CERTIFICATE=str(folder), PROMOTER_APPROVALS_PORT=str(port))
    await operator.until("paused", waiting_for_approval)

    for user in ("carol", "alice"):
        status = backend.status
        spec = {"promotion": "loans", "version": "2", "pausedAt": status["phaseStartedAt"]}
        document = {"metadata": {"creationTimestamp": "2026-11-28T12:00:00Z"}, "spec": spec}
        code, answer = await post(f"https://127.0.0.1:{port}{PATH}", folder, review(user, object=document))
        assert (code, answer["response"]["allowed"]) == (200, True)
        given["items"].append(jsonpatch.apply_patch(document, base64.b64decode(answer["response"]["patch"]).decode()))
        await operator.until(f"approved by {user}", partial(approved_by, user))
        assert (user == "alice") or waiting_for_approval(backend), "the trainer alone is not enough"
    await operator.until("idle", lambda t: t.status["phase"] == "Idle" and t.status["stableVersion"] == "2")
    assert backend.status["history"][0]["approvedBy"] == ["carol", "alice"]
