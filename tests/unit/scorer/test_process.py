"""The service as a process: its two ports, and how it stops under load."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pyarrow as pa
import pytest

from unit.scorer.service_process import SOURCES, Service, service

JSON = {"content-type": "application/json"}


def applicant(model_folder: Path) -> bytes:
    contract = json.loads((model_folder / "contract.json").read_bytes())
    return json.dumps(contract["reference_applicant"]).encode()


async def load(running: Service, body: bytes, until: asyncio.Event, statuses: Counter[object]) -> None:
    """Send requests over kept connections until told to stop or the port closes."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        while not until.is_set():
            try:
                async with session.post(f"{running.url}/v1/score", data=body, headers=JSON) as answer:
                    await answer.read()
                    statuses[answer.status] += 1
            except aiohttp.ClientConnectorError:
                return  # The port is closed: another pod takes over.
            except aiohttp.ClientError as error:
                statuses[type(error).__name__] += 1
            await asyncio.sleep(0.005)


async def status_of(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as answer:
        return answer.status


async def test_a_stopping_service_loses_no_request_and_exits_with_0(model_folder: Path, tmp_path: Path) -> None:
    async with service(model_folder, tmp_path, drain_seconds=3) as running:
        statuses: Counter[object] = Counter()
        until = asyncio.Event()
        body = applicant(model_folder)
        clients = [asyncio.create_task(load(running, body, until, statuses)) for _ in range(8)]
        async with asyncio.timeout(30):
            while statuses[200] < 200:
                await asyncio.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(2):
                while await status_of(session, f"{running.management_url}/readyz") == 200:
                    await asyncio.sleep(0.01)
            async with session.get(f"{running.management_url}/readyz") as answer:
                assert answer.status == 503
                assert "shutting down" in (await answer.json(content_type=None))["detail"]
            async with session.post(f"{running.url}/v1/score", data=body, headers=JSON) as answer:
                assert (answer.status, answer.headers["connection"]) == (200, "close")
        # Traffic moves to other pods once this one is no longer an endpoint.
        until.set()
        await asyncio.gather(*clients)
        assert await asyncio.wait_for(running.process.wait(), 10) == 0
        assert set(statuses) == {200}
        assert statuses[200] > 100


async def test_metrics_are_on_the_management_port_only(model_folder: Path, tmp_path: Path) -> None:
    async with service(model_folder, tmp_path) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.management_url}/metrics") as answer:
            assert answer.status == 200
            assert 'scorer_refused_total{reason="slow"} 0.0' in await answer.text()
        for path in ("/metrics", "/healthz", "/readyz"):
            async with session.get(f"{running.url}{path}") as answer:
                assert answer.status == 404, path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_service_stops_at_once(model_folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    async with service(model_folder, tmp_path) as running:
        running.process.send_signal(number)
        assert await asyncio.wait_for(running.process.wait(), 5) == 0


async def test_the_sandbox_process_ends_with_the_service(model_folder: Path, tmp_path: Path) -> None:
    async with service(model_folder, tmp_path) as running, aiohttp.ClientSession() as session:
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
        table, body = pa.table({"colour": ["red"]}), io.BytesIO()
        with pa.ipc.new_stream(body, table.schema) as writer:
            writer.write_table(table)
        async with session.post(f"{running.url}/v1/score/batch", data=body.getvalue(), headers=headers) as answer:
            assert "colour" in (await answer.json(content_type=None))["detail"]
        threads = Path(f"/proc/{running.process.pid}/task").iterdir()
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        assert children
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 5) == 0
        async with asyncio.timeout(5):
            while any(Path(f"/proc/{child}").exists() for child in children):
                await asyncio.sleep(0.05)


def test_the_service_imports_no_training_library() -> None:
    """Each of them alone would add more than a second to the start, and more memory than everything else."""
    heavy = "torch", "mlflow", "pandas", "sklearn", "pyarrow", "arro3"
    program = f"import sys, scorer.process; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True
    )
    assert found.stdout == "[]\n", found.stderr
