"""The cost of idle ModelPromotions: memory and CPU time of the operator's process.

    python benchmarks/operator/idle.py [promotions] [seconds]

API server and registry are fakes in another process, so that only the operator is measured, started as in its image.
Its own metrics confirm that all promotions were idle.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

ROOT = Path(__file__).parents[2]
GROUP = "/apis/creditrisk.io/v1alpha1"


def promotion(number: int) -> dict[str, Any]:
    """Return one of the promotions; each has its own Deployment."""
    return {
        "apiVersion": "creditrisk.io/v1alpha1", "kind": "ModelPromotion",
        "metadata": {"name": f"m{number}", "namespace": "bank", "uid": f"u{number}", "generation": 1,
                     "resourceVersion": "1"},
        "spec": {"model": {"name": f"m{number}"}, "targetRef": {"name": f"m{number}"}},
    }  # fmt: skip


def server(promotions: int, calls: list[str]) -> web.Application:
    """Return a fake API server and registry; it keeps what is applied, so that the operator comes to rest."""
    objects: dict[str, dict[str, Any]] = {}
    labels = {"app": "scoring"}
    template = {"metadata": {"labels": labels, "annotations": {"creditrisk.io/model-version": "1"}},
                "spec": {"containers": [{"name": "scorer"}]}}  # fmt: skip
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    for number in range(promotions):
        path = f"/apis/apps/v1/namespaces/bank/deployments/m{number}"
        objects[path] = copy.deepcopy({"metadata": {}, "spec": spec, "status": counts})

    async def answer(request: web.Request) -> web.StreamResponse:
        path = request.path
        calls.append(path)
        if path in DISCOVERY:
            return web.json_response(DISCOVERY[path])
        if path.endswith("/modelpromotions"):
            if request.query.get("watch") == "true":
                stream = web.StreamResponse()
                await stream.prepare(request)
                await asyncio.sleep(3600)
                return stream
            items = [promotion(number) for number in range(promotions)]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        if "/mlflow/" in path:
            return web.json_response({"model_version": {"version": "1"}})
        if request.content_type == "application/apply-patch+yaml":
            objects[path] = json.loads(await request.read())
        if request.method in {"PATCH", "POST"}:
            return web.json_response({})
        found = objects.get(path)
        return web.json_response(found or {}, status=200 if found else 404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def _resource(plural: str, kind: str) -> dict[str, Any]:
    return {"name": plural, "kind": kind, "singularName": kind.lower(), "namespaced": True,
            "verbs": ["get", "list", "watch", "patch"]}  # fmt: skip


def _group(name: str, version: str) -> dict[str, Any]:
    found = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [found], "preferredVersion": found}


DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": [_group("creditrisk.io", "v1alpha1"), _group("apiextensions.k8s.io", "v1")]},
    "/api/v1": {"resources": [_resource("namespaces", "Namespace"), _resource("events", "Event")]},
    "/apis/apiextensions.k8s.io/v1": {
        "resources": [_resource("customresourcedefinitions", "CustomResourceDefinition")]
    },
    GROUP: {"resources": [_resource("modelpromotions", "ModelPromotion")]},
}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return a process's peak resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def idle(port: int) -> int:
    """Return how many promotions are idle by the operator's metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum('phase="Idle"' in line and line.endswith(" 1.0") for line in lines)


async def start_operator(url: str, folder: Path, **settings: str) -> asyncio.subprocess.Process:
    """Start the operator, with API server and registry at one address."""
    config = folder / "kubeconfig"
    config.write_text(json.dumps({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "u", "user": {}}],
    }))  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "promoter", stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator" / "src"), "KUBECONFIG": str(config),
             "PROMOTER_REGISTRY_URL": url, "PROMOTER_NAMESPACES": "bank", **settings},
    )  # fmt: skip


async def measure(promotions: int, seconds: float) -> None:
    """Run and print the table."""
    calls: list[str] = []
    runner = web.AppRunner(server(promotions, calls), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = await start_operator(url, Path(folder), PROMOTER_PORT=str(port))
        await asyncio.sleep(8)
        calls.clear()
        before, started = cpu_seconds(process.pid), time.monotonic()
        await asyncio.sleep(seconds)
        share = (cpu_seconds(process.pid) - before) / (time.monotonic() - started)
        if (found := await idle(port)) != promotions:
            raise SystemExit(f"{found} of {promotions} promotions are idle: this measures something else")
        print("| promotions | peak memory, MB | CPU, % of a core | calls per second |\n|---|---|---|---|")
        print(f"| {promotions} | {memory_mb(process.pid):.0f} | {share * 100:.2f} | {len(calls) / seconds:.1f} |")
        process.terminate()
        await process.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(measure(int((sys.argv[1:] or ["10"])[0]), float((sys.argv[2:] or ["60"])[0])))
