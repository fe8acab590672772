"""What a process holds, from outside of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holdings:
    """What a process holds.

    Attributes:
        megabytes: Resident memory.
        peak_megabytes: The most that it has been so far.
        descriptors: Open files.
        threads: Threads.
        children: Processes that it started.
    """

    megabytes: float
    peak_megabytes: float
    descriptors: int
    threads: int
    children: int


def holdings(pid: int) -> Holdings:
    """Return what a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()

    def number(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        assert found
        return int(found[1])

    # A process belongs to the thread that started it.
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Holdings(number("VmRSS") / 1024, number("VmHWM") / 1024, descriptors, number("Threads"), len(children))


async def settled(pid: int, good: Callable[[Holdings], bool], seconds: float = 20) -> Holdings:
    """Return what a process holds once that is good, or after so long whatever it is."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not good(found := holdings(pid)) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.2)
    return found
