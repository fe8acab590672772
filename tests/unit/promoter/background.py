"""Work of the operator that goes on for ever, run as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def run_until(holds: Callable[[], bool], work: Coroutine[Any, Any, None]) -> None:
    """Run work in the background until something holds, which it must within 10 s."""
    task = asyncio.create_task(work)
    try:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.001)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
