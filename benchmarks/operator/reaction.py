"""How fast the operator acts: from a moved pointer to the canary, and from an abort to the canary's last answer.

    python benchmarks/operator/reaction.py [trials]

The operator, a stable and a canary scoring service are real processes under load; registry and API server are fakes.
They start no pods and pass on a changed route at once; on a cluster, kubelets add their time (0.1 to 0.2 s for the
route of a nudged pod).
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / part) for part in ("operator", "routing")]

import cost  # noqa: E402
import idle  # noqa: E402

BANK = "/apis/creditrisk.io/v1alpha1/namespaces/bank/modelpromotions"
MP, DEPLOYMENTS, CORE = f"{BANK}/loans", "/apis/apps/v1/namespaces/bank/deployments", "/api/v1/namespaces/bank"
POLL_SECONDS = 10.0


class Cluster:
    """API server, registry and kubelet in one."""

    def __init__(self, stable: cost.Api, canary_port: int, route_file: Path) -> None:
        self.canary_port, self.route_file = canary_port, route_file
        self.alias, self.canary_at, self.watchers = "1", 0.0, set[asyncio.Queue[dict[str, Any]]]()
        labels = {"app": "scoring", "creditrisk.io/track": "stable"}
        named = {"http": stable.port, "management": stable.management_port}
        ports = [{"name": name, "containerPort": port} for name, port in named.items()]
        annotations = {"creditrisk.io/model-version": "1"}
        template = {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"containers": [{"ports": ports}]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        steps = [{"weight": 50, "duration": "1h"}]
        self.objects: dict[str, dict[str, Any]] = {
            f"{DEPLOYMENTS}/scoring": {"kind": "Deployment", "metadata": {"name": "scoring"}, "spec": spec},
            MP: {
                "apiVersion": "creditrisk.io/v1alpha1", "kind": "ModelPromotion",
                "metadata": {"name": "loans", "namespace": "bank", "uid": "u", "generation": 1, "annotations": {}},
                "spec": {"model": {"name": "credit-risk"}, "steps": steps},
            },
        }  # fmt: skip

    @property
    def status(self) -> dict[str, Any]:
        """Return the last status the operator wrote."""
        return self.objects[MP].get("status", {})

    def act(self, action: str) -> None:
        """Annotate, as kubectl does."""
        self.objects[MP]["metadata"]["annotations"] = {"creditrisk.io/action": action}
        self._notify()

    async def answer(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - a routing table
        """Answer the operator's requests."""
        path = request.path
        if path in idle.DISCOVERY:
            return web.json_response(idle.DISCOVERY[path])
        if path == BANK and request.query.get("watch") == "true":
            return await self._watch(request)
        if path == BANK:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": [self.objects[MP]]})
        if "/mlflow/" in path:
            return web.json_response({"model_version": {"version": self.alias}})
        if path == f"{CORE}/pods":
            return web.json_response({"items": self._pods(request.query["labelSelector"])})
        if request.method == "DELETE":
            return web.json_response(self.objects.pop(path, {}))
        if request.method in {"PATCH", "POST"}:
            return web.json_response(self._write(path, json.loads(await request.read())))
        found = self.objects.get(path)
        return web.json_response(self._counted(found) if found else {}, status=200 if found else 404)

    def _write(self, path: str, body: Any) -> dict[str, Any]:
        if path == f"{MP}/status":
            self.objects[MP]["status"] = body[1]["value"]
        elif path == MP:
            if self.objects[MP]["metadata"]["annotations"].get("creditrisk.io/action") != body[0]["value"]:
                # Another action was set meanwhile: the patch's test fails, as on an API server.
                return {}
            self.objects[MP]["metadata"]["annotations"] = {}
            self._notify()
        elif path == f"{DEPLOYMENTS}/scoring-canary":
            self.canary_at, self.objects[path] = time.monotonic(), body
        elif path.startswith(f"{CORE}/pods/"):
            self._pass_on_the_route()
        elif path.startswith((f"{CORE}/configmaps/", f"{CORE}/services/")):
            self.objects[path] = body
        return {}

    def _pass_on_the_route(self) -> None:
        route = json.loads(self.objects[f"{CORE}/configmaps/scoring-route"]["data"]["route.json"])
        if "canary" in route:
            # Instead of the cluster's DNS.
            route["canary"]["url"] = f"http://127.0.0.1:{self.canary_port}"
        new = self.route_file.with_suffix(".new")
        new.write_text(json.dumps(route))
        new.rename(self.route_file)

    def _pods(self, selector: str) -> list[dict[str, Any]]:
        name = "scoring-canary" if "track=canary" in selector else "scoring"
        metadata = self.objects[f"{DEPLOYMENTS}/{name}"]["spec"]["template"]["metadata"]
        status = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        return [{"metadata": {**metadata, "name": f"{name}-0"}, "status": status}]

    @staticmethod
    def _counted(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "status": dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)}

    def _notify(self) -> None:
        for queue in self.watchers:
            queue.put_nowait(copy.deepcopy(self.objects[MP]))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        stream, queue = web.StreamResponse(), asyncio.Queue()
        await stream.prepare(request)
        self.watchers.add(queue)
        try:
            while True:
                await stream.write(json.dumps({"type": "MODIFIED", "object": await queue.get()}).encode() + b"\n")
        except ConnectionError:
            # The operator renews its watches from time to time.
            return stream
        finally:
            self.watchers.discard(queue)

    async def until(self, phase: str, seconds: float = 60) -> None:
        """Wait for a phase.

        Raises:
            TimeoutError: the phase was not reached.
        """
        async with asyncio.timeout(seconds):
            while self.status.get("phase") != phase or (phase == "Progressing" and not self.status["verifiedWeight"]):
                await asyncio.sleep(0.02)


class Load:
    """Eight clients that send requests without a pause, and the time of each version's last answer."""

    def __init__(self, port: int, body: str) -> None:
        self._url, self._body = f"http://127.0.0.1:{port}/v1/score", body
        self.last: dict[str, float] = {}
        self.answers = self.failed = 0

    async def run(self) -> None:
        """Send requests until cancelled."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            for client in range(8):
                group.create_task(self._client(session, client))

    async def _client(self, session: aiohttp.ClientSession, client: int) -> None:
        headers = {"Content-Type": "application/json"}
        while True:
            self.answers += 1
            applicant = {"X-Applicant-Id": f"{client}-{self.answers}"}
            async with session.post(self._url, data=self._body, headers=headers | applicant) as response:
                self.failed += response.status != 200
                version = (await response.json())["model"]["version"]
            self.last[version] = time.monotonic()
            await asyncio.sleep(0.005)


async def pointer_moves(cluster: Cluster, trials: int) -> list[float]:
    """Return the seconds from a moved pointer to the canary's Deployment."""
    found = []
    for number in range(trials):
        cluster.alias = "1"
        await cluster.until("Idle")
        # At a random moment of the poll interval.
        await asyncio.sleep(random.uniform(0, POLL_SECONDS))
        moved, cluster.alias = time.monotonic(), str(100 + number)
        await cluster.until("Starting")
        while cluster.canary_at < moved:
            await asyncio.sleep(0.01)
        found.append(cluster.canary_at - moved)
    return found


async def aborts(cluster: Cluster, load: Load, trials: int) -> list[float]:
    """Return the seconds from an abort to the canary's last answer."""
    found = []
    cluster.alias = "2"
    for _ in range(trials):
        while cluster.status.get("canaryVersion") != "2":
            await asyncio.sleep(0.02)
        await cluster.until("Progressing")
        await asyncio.sleep(2)
        aborted = time.monotonic()
        if aborted - load.last.get("2", 0.0) > 0.5:
            raise SystemExit("the canary answered no request before the abort: this measures nothing")
        cluster.act("abort")
        await cluster.until("Failed")
        await asyncio.sleep(1)
        found.append(load.last["2"] - aborted)
        cluster.act("retry")
    return found


async def measure(model: Path, work: Path, trials: int) -> None:
    """Run and print the table."""
    route_file = work / "route.json"
    body = json.dumps(json.loads((model / "contract.json").read_text())["reference_applicant"])
    with cost.api(model, "1", route_file) as stable, cost.api(model, "2") as canary:
        cluster, app = Cluster(stable, canary.port, route_file), web.Application()
        app.router.add_route("*", "/{path:.*}", cluster.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        process = await idle.start_operator(url, work, PROMOTER_POLL_SECONDS=str(POLL_SECONDS), PROMOTER_PORT="0")
        load = Load(stable.port, body)
        loading = asyncio.create_task(load.run())
        try:
            canaries, lasts = await pointer_moves(cluster, trials), await aborts(cluster, load, trials)
        finally:
            loading.cancel()
            process.terminate()
            await process.wait()
        await runner.cleanup()
    print(f"| {trials} trials each, {load.answers} requests, {load.failed} failed | median, s | longest, s | wanted |")
    print("|---|---|---|---|")
    for name, found, wanted in (
        (f"pointer moved to canary created, poll every {POLL_SECONDS:g} s", canaries, POLL_SECONDS + 2),
        ("abort to the canary's last answer", lasts, 2),
    ):
        print(f"| {name} | {statistics.median(found):.2f} | {max(found):.2f} | {wanted:g} |")


if __name__ == "__main__":
    sys.path[:0] = map(str, cost.SOURCES)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(cost.train(Path(folder)), Path(folder), int((sys.argv[1:] or ["5"])[0])))
