"""Generated hostile requests against the service as a process: no fault, no crash, no leak, no wrong score.

CREDIT_RISK_FUZZ_REQUESTS says how many in `make test-soak`; 100,000 without it. CREDIT_RISK_FUZZ_SEED plays a failure
again, whose seed it names.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from trainer.data.synthetic import generate
from unit.scorer.fuzz.campaign import Campaign
from unit.scorer.fuzz.openapi import fuzz_by_schema, fuzz_raw_bytes
from unit.scorer.fuzz.oracle import Oracle
from unit.scorer.fuzz.watch import Holdings, settled
from unit.scorer.service_process import Service, service

FAST, SOAK = 2_000, int(os.environ.get("CREDIT_RISK_FUZZ_REQUESTS", "100000"))
SEED = int(os.environ.get("CREDIT_RISK_FUZZ_SEED", "0")) or random.randrange(1, 1_000_000)
# Short, for clients that stall on purpose.
ARRIVAL_SECONDS = 2
# File descriptors while there are no connections, and the processes of the sandbox.
LOADED, SANDBOX = 32, 2
log = logging.getLogger(__name__)


@pytest.fixture
async def running(model_folder: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with service(model_folder, tmp_path, log=tmp_path / "log", max_arrival_seconds=ARRIVAL_SECONDS) as started:
        yield started


@pytest.fixture
def campaign(running: Service, model_folder: Path) -> Campaign:
    oracle, port = Oracle(model_folder), urlsplit(running.url).port
    assert port
    applicants: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()}
        for row in generate(200, seed=5)[oracle.names].to_dict("records")
    ]
    assert all(map(oracle.valid, applicants))
    return Campaign(port, oracle, applicants, SEED)


async def attack(running: Service, campaign: Campaign, requests: int) -> None:
    """Send requests of every kind: half of them ours, the rest by schemathesis and hypothesis."""
    await campaign.run(requests * 6 // 10)
    campaign.sent["schema"] += await asyncio.to_thread(fuzz_by_schema, running.url, requests // 10, SEED)
    campaign.sent["raw bytes"] += await asyncio.to_thread(fuzz_raw_bytes, campaign.port, requests * 3 // 10, SEED)


def assert_alive(running: Service, log: Path) -> None:
    assert running.process.returncode is None
    said = log.read_text(errors="replace")
    assert "Traceback" not in said, said[said.index("Traceback") :][:5000]


def as_few(before: Holdings, found: Holdings) -> bool:
    """Return whether a process holds no more files, threads and children than before.

    The sandbox for tables, with its pipes and threads, may have been there only once; idle threads come and go.
    """
    return (
        found.descriptors <= before.descriptors + 10
        and found.threads <= before.threads + 5
        and found.children <= SANDBOX
    )


async def test_hostile_requests_are_no_fault(running: Service, campaign: Campaign, tmp_path: Path) -> None:
    # What is started when it is first needed, as the process for tables is.
    await campaign.run(FAST // 10)
    before = await settled(running.process.pid, lambda found: found.descriptors < LOADED)
    await attack(running, campaign, FAST)
    assert_alive(running, tmp_path / "log")
    after = await settled(running.process.pid, lambda found: as_few(before, found))
    assert as_few(before, after), (before, after)


@pytest.mark.soak
@pytest.mark.slow
async def test_many_hostile_requests_leave_nothing_behind(running: Service, campaign: Campaign, tmp_path: Path) -> None:
    await attack(running, campaign, SOAK // 5)
    before = await settled(running.process.pid, lambda found: found.descriptors < LOADED)
    await attack(running, campaign, SOAK)
    assert campaign.sent.total() >= SOAK, campaign.sent
    assert_alive(running, tmp_path / "log")
    after = await settled(running.process.pid, lambda found: found.megabytes <= before.megabytes * 1.05)
    log.info("%s; before %s, after %s", dict(campaign.sent), before, after)
    assert as_few(before, after), (before, after)
    assert after.megabytes <= before.megabytes * 1.05, (before, after)
