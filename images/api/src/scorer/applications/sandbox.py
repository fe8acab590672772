"""A separate process for work that hostile input could crash: native readers abort if memory runs out.

A Parquet file of 5 kB can expand to 80 GB of strings, and nothing in it announces that.
"""

from __future__ import annotations

import logging
import os
import re
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

log = logging.getLogger(__name__)
Given = ParamSpec("Given")
Result = TypeVar("Result")


class SandboxCrashedError(Exception):
    """The sandbox process died during the work, most likely because it ran out of memory."""


class Sandbox:
    """Runs module-level functions, one at a time, in a process that starts when it is first needed."""

    def __init__(self, memory_bytes: int) -> None:
        """Take how much memory the work may use, in bytes."""
        self._memory_bytes = memory_bytes
        self._pool: ProcessPoolExecutor | None = None

    def run(self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Return what the function returns, or raise what it raises; both must be picklable.

        Raises:
            SandboxCrashedError: If the process died; the next call starts a new one.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _restrict, (self._memory_bytes,))
        try:
            return self._pool.submit(work, *args, **kwargs).result()
        except BrokenProcessPool as error:
            log.warning("the sandbox process died while running %s", work.__name__)
            self._pool.shutdown(wait=False)
            self._pool = None
            raise SandboxCrashedError(
                f"{work.__name__} used more than {self._memory_bytes} bytes, or crashed"
            ) from error


def _restrict(extra_bytes: int) -> None:
    """Let this process use that much more memory than it does now, and give way to the service's own process.

    It writes no core dump if it aborts.
    """
    status = Path("/proc/self/status").read_text("ascii")
    (used,) = re.findall(r"VmData:\s+(\d+) kB", status)
    limit = int(used) * 1024 + extra_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)
