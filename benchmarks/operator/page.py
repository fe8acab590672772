"""The cost of the page: memory and CPU time of the operator with fifty ModelPromotions while browsers follow.

    python benchmarks/operator/page.py [promotions] [browsers] [seconds]

As in idle.py, the operator is a process of its own, and API server and registry are fakes in this one. Each browser
follows the list and one promotion; changes come through the operator's watch. In another process, the page's memory of
rollouts is filled to its limits, and a change is drawn once for all browsers and once for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from idle import ROOT, cpu_seconds, idle, memory_mb, server, start_operator
from idle import promotion as bare_promotion

SETTLE_SECONDS = 180.0


def promotion(number: int, revision: int = 0) -> dict[str, Any]:
    """Return one of the promotions, with a status as long as it gets at rest."""
    results = [{"name": f"Check{n}", "verdict": "Successful", "value": 0.01 * n, "limit": 0.2, "lower": 0.0,
                "upper": 0.1, "samples": 9000, "message": "x" * 120} for n in range(8)]  # fmt: skip
    at = "2026-11-28T12:00:00.000Z"
    ended = {"version": "0", "outcome": "RolledBack", "reason": "AnalysisFailed", "at": at}
    found = bare_promotion(number)
    found["metadata"]["generation"] = revision + 1
    found["spec"]["rollbackWindow"] = revision % 2
    found["status"] = {"phase": "Idle", "stableVersion": "1", "desiredVersion": "1", "target": f"m{number}",
                       "message": "version 1 is stable", "history": [ended] * 10, "phaseStartedAt": at,
                       "analysis": {"verdict": "Successful", "at": at, "results": results}}  # fmt: skip
    return found


class Changes:
    """Sends changed promotions to the operator's watch."""

    def __init__(self, promotions: int) -> None:
        """Take how many promotions there are."""
        self._promotions, self.per_second = promotions, 0.0

    @web.middleware
    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer for the promotions alone."""
        if not request.path.endswith("/modelpromotions"):
            return await handler(request)
        if request.query.get("watch") != "true":
            items = [promotion(number) for number in range(self._promotions)]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})
        stream = web.StreamResponse()
        await stream.prepare(request)
        count = 0
        while True:
            await asyncio.sleep(1 / self.per_second if self.per_second else 0.1)
            if self.per_second:
                count += 1
                changed = promotion(count % self._promotions, 1 + count // self._promotions)
                changed["metadata"]["resourceVersion"] = str(1 + count)
                await stream.write(json.dumps({"type": "MODIFIED", "object": changed}).encode() + b"\n")


async def at_rest(port: int, promotions: int) -> None:
    """Wait until all promotions are idle."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                if await idle(port) == promotions:
                    return
            await asyncio.sleep(1)


async def follow(url: str, got: list[int]) -> None:
    """Follow a page as a browser does."""
    async with aiohttp.ClientSession() as session, session.get(url, timeout=aiohttp.ClientTimeout()) as response:
        async for chunk in response.content.iter_any():
            got[0] += chunk.count(b"id: ")
            got[1] += len(chunk)


async def measure(promotions: int, browsers: int, changes: float, seconds: float, *, page: bool) -> str:
    """Return a row of the table."""
    calls: list[str] = []
    changing = Changes(promotions)
    app = server(promotions, calls)
    app.middlewares.append(changing.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, page_port = one.getsockname()[1], other.getsockname()[1]
    settings = {"PROMOTER_PAGE_PORT": str(page_port), "PROMOTER_PAGE_ACCESS": "none"} if page else {}
    with tempfile.TemporaryDirectory() as folder:
        process = await start_operator(url, Path(folder), PROMOTER_PORT=str(port), **settings)
        try:
            await at_rest(port, promotions)
            got = [0, 0]
            paths = [path for n in range(browsers) for path in ("/-/events", f"/bank/m{n}/events")]
            following = [asyncio.create_task(follow(f"http://127.0.0.1:{page_port}{path}", got)) for path in paths]
            await asyncio.sleep(2)
            changing.per_second = changes
            before, started, calls_before = cpu_seconds(process.pid), time.monotonic(), len(calls)
            await asyncio.sleep(seconds)
            took = time.monotonic() - started
            share = (cpu_seconds(process.pid) - before) / took
            if (found := await idle(port)) != promotions:
                raise SystemExit(f"{found} of {promotions} promotions are idle: this measures something else")
            if following and (got[0] < len(following) or any(task.done() for task in following)):
                raise SystemExit(f"{got[0]} events for {len(following)} streams: not every browser follows")
            memory = memory_mb(process.pid)
        finally:
            stopped = time.monotonic()
            process.terminate()
            await process.wait()
            stopped = time.monotonic() - stopped
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await runner.cleanup()
    return (f"| {'on' if page else 'off'} | {browsers} | {changes:g} | {memory:.0f} | {share * 100:.1f} | "
            f"{got[0] / took:.1f} | {(len(calls) - calls_before) / took:.1f} | {stopped:.1f} |")  # fmt: skip


def fill(board: Any, number: int) -> None:
    """Show a promotion, and remember as much of its rollout as the page does at most."""
    from promoter.api.resource import Owner
    from promoter.api.status import AnalysisResult, State, TimelineEntry
    from promoter.page.records import EVENTS_KEPT
    from promoter.page.series import POINTS_KEPT, extended
    from promoter.promotion import Promotion

    document = promotion(number)
    owner = Owner("bank", f"m{number}", f"u{number}")
    board.show(Promotion(owner, document, State.model_validate(document["status"])))
    record = board._shown[owner.namespace, owner.name].record  # noqa: SLF001 - what rollouts would fill
    for at in range(1_800_000_000, 1_800_000_000 + POINTS_KEPT):
        judgment = AnalysisResult.model_validate({**document["status"]["analysis"], "at": at})
        record.series = extended(record.series, judgment)
    for at in range(1_800_000_000, 1_800_000_000 + EVENTS_KEPT):
        record.events.append(TimelineEntry(id=f"{owner}/{at}", model="m", kind="Judged", at=at, message="x" * 300))


async def draw(promotions: int, browsers: int) -> None:
    """Print what the page remembers of rollouts at most, and what drawing a change costs."""
    from promoter.page.board import Board

    board = Board(time.time, "")
    gc.collect()
    before = _resident_mb()
    for number in range(promotions):
        fill(board, number)
    topic = board.topic("bank", "m0")
    print(f"\n{promotions} rollouts at the page's limits take {_resident_mb() - before:.0f} MB; a picture of one has "
          f"{len(topic.picture()) / 1024:.0f} KiB.\n")  # fmt: skip
    print(f"| a change is drawn, for {browsers} browsers | CPU, ms |\n|---|---|")
    for name, times in (("once for all", 1), ("once for each", browsers)):
        started = time.process_time()
        for _ in range(50 * times):
            topic.picture()
        print(f"| {name} | {(time.process_time() - started) / 50 * 1000:.1f} |")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def main(promotions: int, browsers: int, seconds: float) -> None:
    """Run and print the tables."""
    print(f"{promotions} ModelPromotions\n")
    print("| page | browsers | changes per second | peak memory, MB | CPU, % of a core | events per second | calls of "
          "API server and registry per second | to stop, s |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for page, following, changes in ((False, 0, 0), (True, 0, 0), (True, browsers, 0), (True, browsers, 5)):
        print(await measure(promotions, following, changes, seconds, page=page), flush=True)
    # In a process of its own, whose memory holds nothing else.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator" / "src")}
    subprocess.run([sys.executable, __file__, "draw", str(promotions), str(browsers)], check=True, env=environment)


if __name__ == "__main__":
    if sys.argv[1:2] == ["draw"]:
        asyncio.run(draw(int(sys.argv[2]), int(sys.argv[3])))
    else:
        asked = [int(number) for number in sys.argv[1:]]
        asyncio.run(main(*(asked + [50, 10, 30][len(asked) :])))
