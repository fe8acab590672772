"""A process of its own for work that hostile bytes could end: native readers meet a lack of memory by aborting.

A Parquet file of 5 kB can stand for 80 GB of strings, and nothing in it says so beforehand.
"""

from __future__ import annotations

import logging
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


class EndedError(Exception):
    """The process ended in the middle of the work, most likely for lack of memory."""


class Apart:
    """Runs functions of modules, one after the other, in a process that starts when it is first needed."""

    def __init__(self, most_bytes: int) -> None:
        """Take how much memory the work may use, in bytes."""
        self._most_bytes = most_bytes
        self._pool: ProcessPoolExecutor | None = None

    def run(self, work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        """Return what the function returns, or raise what it raises; both must be picklable.

        Raises:
            EndedError: when the process ended; the next work gets a new one.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _hold_down, (self._most_bytes,))
        try:
            return self._pool.submit(work, *args, **kwargs).result()
        except BrokenProcessPool as error:
            log.warning("the process for %s ended in the middle of its work", work.__name__)
            self._pool.shutdown(wait=False)
            self._pool = None
            raise EndedError(f"{work.__name__} took more than {self._most_bytes} bytes, or failed") from error


def _hold_down(most_bytes: int) -> None:
    """Let this process have so much more memory than it has, and leave no image of it behind when it aborts."""
    status = Path("/proc/self/status").read_text("ascii")
    (held,) = re.findall(r"VmData:\s+(\d+) kB", status)
    limit = int(held) * 1024 + most_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
