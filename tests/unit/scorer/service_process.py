"""The service as a separate process with a registry of one version, for tests that need real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from conftest import REPOSITORY
from processes import free_port

SOURCES = REPOSITORY / "images" / "api" / "src"


@dataclass
class Service:
    """A running service, and where it answers."""

    process: asyncio.subprocess.Process
    url: str
    management_url: str


@contextlib.asynccontextmanager
async def registry(folder: Path, number: str = "7") -> AsyncIterator[str]:
    """Serve a folder's model as a version of credit-risk, the way MLflow would."""
    tags = [
        {"key": f"sha256.{name}", "value": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name in ("model.onnx", "contract.json")
    ]
    version = {"name": "credit-risk", "version": number, "run_id": "run", "tags": tags}

    async def alias(_: web.Request) -> web.Response:
        return web.json_response({"model_version": version})

    async def uri(_: web.Request) -> web.Response:
        return web.json_response({"artifact_uri": f"mlflow-artifacts:/{number}"})

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / request.match_info["name"])

    app = web.Application()
    api = "/api/2.0/mlflow"
    app.router.add_get(f"{api}/registered-models/alias", alias)
    app.router.add_get(f"{api}/model-versions/get-download-uri", uri)
    app.router.add_get(f"{api}-artifacts/artifacts/{number}/{{name}}", file)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def service(
    model_folder: Path, work: Path, log: Path | None = None, version: str = "7", **settings: object
) -> AsyncIterator[Service]:
    """Run `python -m scorer` with its output in `log` until it is ready; stop it at the end if it still runs."""
    port, management = free_port(), free_port()
    async with registry(model_folder, version) as registry_url:
        own = {"registry_url": registry_url, "cache_dir": work / "cache", "host": "127.0.0.1", "port": port,
               "management_port": management, "pod_name": "pod-1", **settings}  # fmt: skip
        environment = {**os.environ, **{f"SCORER_{name.upper()}": str(value) for name, value in own.items()}}
        environment["PYTHONPATH"] = str(SOURCES)
        with contextlib.ExitStack() as files:
            output = files.enter_context(log.open("wb")) if log else None
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "scorer", env=environment, stdout=output, stderr=output
            )
        running = Service(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{management}")
        try:
            await _ready(running)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _ready(running: Service) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            try:
                async with session.get(f"{running.management_url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                assert running.process.returncode is None, "the service ended"
            await asyncio.sleep(0.1)
