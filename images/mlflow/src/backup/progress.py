"""Work on many objects at once, with a line of progress every few seconds."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from backup.bucket import CONNECTIONS

logger = logging.getLogger("backup")

_REPORT_SECONDS = 5.0
Item = TypeVar("Item")
Result = TypeVar("Result")


def for_all(
    what: str, items: Iterable[Item], work: Callable[[Item], Result], size: Callable[[Item], int]
) -> Iterator[Result]:
    """Yield `work(item)` for all items as they finish; the first failure ends it.

    Args:
        what: What is done, for the progress lines.
        items: What to work on.
        work: Called from several threads.
        size: An item's size in bytes.
    """
    waiting = list(items)
    total, done, done_bytes, reported = len(waiting), 0, 0, time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = {pool.submit(work, item): size(item) for item in waiting}
        try:
            for future in as_completed(futures):
                result = future.result()
                done, done_bytes = done + 1, done_bytes + futures[future]
                if time.monotonic() - reported > _REPORT_SECONDS:
                    reported = time.monotonic()
                    logger.info("%s: %d of %d objects, %.1f MB", what, done, total, done_bytes / 1e6)
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
    logger.info("%s: %d objects, %.1f MB", what, total, done_bytes / 1e6)
