"""Replays take turns in a process of their own, which may hang or die without harm to the service."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from decisions.replay.errors import LaterError
from decisions.replay.scoring import ScoringProcess
from scorer.model.bundle import Model
from unit.decisions.replay.chain import APPLICANT, Chain, ask_again, replayed
from unit.decisions.service.site import Running


def process_of(service: Running) -> ScoringProcess:
    return service.service.replays._scoring


async def test_replays_take_turns_and_more_than_may_wait_are_refused(chain: Chain, version: Model) -> None:
    decisions = await chain.decide(version, [APPLICANT] * 6)
    service = await chain.serve(replay_waiting=3)
    answers = await asyncio.gather(*(ask_again(service, decision) for decision in decisions))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 2
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json()["detail"] == "4 replays are running or waiting already"
    assert refused.headers["retry-after"] == "10"
    for answer in answers:
        if answer.status_code == 200:
            assert answer.json()["decision_id"] in answer.request.url.path
    assert (await replayed(service, decisions[0]))["same"] is True


async def test_a_process_that_hangs_is_ended_in_time_while_the_service_answers(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve(replay_seconds=2)
    await replayed(service, decision)
    hanging = process_of(service).pid
    assert hanging
    os.kill(hanging, signal.SIGSTOP)
    waiting = asyncio.create_task(ask_again(service, decision))
    await asyncio.sleep(0.1)
    assert (await service.get(f"/v1/decisions/{decision}")).status_code == 200
    assert not waiting.done()
    answer = await waiting
    assert (answer.status_code, answer.json()["detail"]) == (503, "scoring the inputs took longer than 2 s")
    assert (await replayed(service, decision))["same"] is True
    assert process_of(service).pid != hanging


async def test_a_process_that_is_killed_is_started_again(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve()
    await replayed(service, decision)
    killed = process_of(service).pid
    assert killed
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while process_of(service).pid and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert (await replayed(service, decision))["same"] is True
    # Killed in the middle of a question.
    busy = process_of(service).pid
    assert busy
    os.kill(busy, signal.SIGSTOP)
    waiting = asyncio.create_task(ask_again(service, decision))
    await asyncio.sleep(0.3)
    os.kill(busy, signal.SIGKILL)
    answer = await waiting
    assert (answer.status_code, "ended with exit code -9" in answer.text) == (503, True)
    assert (await replayed(service, decision))["same"] is True


async def test_the_process_ends_with_the_service_and_when_it_is_idle(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve()
    process_of(service)._idle_seconds = 0.2
    await replayed(service, decision)
    deadline = time.monotonic() + 10
    while process_of(service).pid and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert process_of(service).pid is None
    process_of(service)._idle_seconds = 60
    await replayed(service, decision)
    running, folder = process_of(service).pid, Path(service.service.replays._folder.name)
    assert running
    assert Path(f"/proc/{running}").exists()
    await chain.close()
    assert (Path(f"/proc/{running}").exists(), folder.exists()) == (False, False)


async def test_the_process_knows_no_password_and_no_key(
    chain: Chain, version: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hidden")
    monkeypatch.setenv("DECISIONS_DATABASE_URL", "postgresql://hidden@h/d")
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve()
    await replayed(service, decision)
    environment = Path(f"/proc/{process_of(service).pid}/environ").read_bytes()
    assert b"PYTHONPATH=" in environment
    assert not [name for name in (b"hidden", b"AWS_", b"DECISIONS_") if name in environment]


async def test_a_program_that_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decisions.replay.scoring.sys.executable", "/nonexistent/python")
    with pytest.raises(LaterError, match="the process that scores cannot be started"):
        await ScoringProcess(1, 256, 1)._answer(b"{}\n")
