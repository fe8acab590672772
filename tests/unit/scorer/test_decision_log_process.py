"""The decision log of a real process: what is durable when it is killed, and when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from unit.scorer.decision_segments import decisions, segments
from unit.scorer.service_process import Service, service

JSON = {"content-type": "application/json"}
CLIENTS = 8


def applicant(model_folder: Path) -> bytes:
    contract = json.loads((model_folder / "contract.json").read_bytes())
    return json.dumps(contract["reference_applicant"]).encode()


async def load(running: Service, body: bytes, answered: list[str]) -> None:
    """Send requests over a kept connection until the service is gone, and note the ids of complete answers."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        while True:
            try:
                async with session.post(f"{running.url}/v1/score", data=body, headers=JSON) as answer:
                    document = await answer.json()
                    assert answer.status == 200, document
                    answered.append(document["decision_id"])
            except aiohttp.ClientError:
                return


async def end_under_load(running: Service, body: bytes, number: signal.Signals, requests: int) -> list[str]:
    """Send requests, then the signal, and return the ids of all answers."""
    answered: list[str] = []
    clients = [asyncio.create_task(load(running, body, answered)) for _ in range(CLIENTS)]
    async with asyncio.timeout(30):
        while len(answered) < requests:
            await asyncio.sleep(0.001)
    running.process.send_signal(number)
    await asyncio.gather(*clients)
    await asyncio.wait_for(running.process.wait(), 20)
    return answered


@pytest.mark.parametrize("requests", [1, 20, 300])
async def test_required_a_killed_process_has_logged_every_decision_that_it_answered_once(
    model_folder: Path, tmp_path: Path, requests: int
) -> None:
    folder = tmp_path / "decisions"
    async with service(model_folder, tmp_path, decision_log="require", decision_log_dir=folder) as running:
        answered = await end_under_load(running, applicant(model_folder), signal.SIGKILL, requests)
    found = [one.id for one in decisions(folder)]
    assert len(found) == len(set(found))
    assert set(answered) <= set(found)
    # Only what was under way is in the log without an answer.
    assert len(set(found) - set(answered)) <= CLIENTS


async def test_a_killed_process_loses_at_most_what_was_gathering(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    async with service(model_folder, tmp_path, decision_log="log", decision_log_dir=folder) as running:
        body, early = applicant(model_folder), list[str]()
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                async with session.post(f"{running.url}/v1/score", data=body, headers=JSON) as answer:
                    early.append((await answer.json())["decision_id"])
        async with asyncio.timeout(10):
            while not {one.id for one in decisions(folder)} >= set(early):
                await asyncio.sleep(0.05)
        await end_under_load(running, body, signal.SIGKILL, 200)
    found = [one.id for one in decisions(folder)]
    assert set(found) >= set(early)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("mode", ["log", "require"])
async def test_a_stopped_process_has_logged_every_decision_that_it_answered(
    model_folder: Path, tmp_path: Path, mode: str
) -> None:
    folder = tmp_path / "decisions"
    async with service(model_folder, tmp_path, decision_log=mode, decision_log_dir=folder, drain_seconds=1) as running:
        answered = await end_under_load(running, applicant(model_folder), signal.SIGTERM, 200)
        assert running.process.returncode == 0
    assert sorted(one.id for one in decisions(folder)) == sorted(answered)
    # Complete and closed: one file, and nobody holds its lock.
    (segment,) = segments(folder)
    assert sorted(file.name for file in segment.parent.iterdir()) == ["lock", segment.name]
    assert subprocess.run(["flock", "--nonblock", segment.parent / "lock", "true"]).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def metric(session: aiohttp.ClientSession, running: Service, name: str) -> float:
    async with session.get(f"{running.management_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


async def test_a_full_disk_is_told_and_writing_goes_on_once_there_is_room(
    model_folder: Path, tmp_path: Path, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    async with (
        service(model_folder, tmp_path, decision_log="require", decision_log_dir=small_disk) as running,
        aiohttp.ClientSession() as session,
    ):
        body, answered, refused = applicant(model_folder), list[str](), 0

        async def ask() -> int:
            async with session.post(f"{running.url}/v1/score", data=body, headers=JSON) as answer:
                document = await answer.json(content_type=None)
                if answer.status == 200:
                    answered.append(document["decision_id"])
                else:
                    assert (answer.status, document["code"]) == (503, "decision-not-logged")
                return answer.status

        assert await ask() == 200
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        async with asyncio.timeout(20):
            while await ask() == 200:
                pass
        refused += 1
        async with session.get(f"{running.management_url}/readyz") as ready:
            assert ready.status == 200
            assert "(disk)" in (await ready.json())["detail"]
        filler.unlink()
        async with asyncio.timeout(20):
            while await ask() != 200:
                refused += 1
                await asyncio.sleep(0.05)
        assert await metric(session, running, 'scorer_decisions_not_logged_total{cause="disk"}') == refused
        running.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 20) == 0
    assert sorted(one.id for one in decisions(small_disk)) == sorted(answered)
