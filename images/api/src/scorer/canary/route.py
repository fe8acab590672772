"""Who answers whom: the route that the operator writes, and the applicants' buckets."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

log = logging.getLogger(__name__)
BUCKETS = 10000


class CanaryRoute(msgspec.Struct, frozen=True, rename="camel"):
    """Where the canary's share goes; in percent of the applicants: `raised_from` until `raised_at`, then `weight`.

    `raised_at` is in seconds since 1970. All pods know a larger weight before it holds, so that it grows in all of them
    at once and sends nobody back.
    """

    version: str
    url: str
    weight: int
    mode: Literal["live", "shadow"]
    deadline_milliseconds: int
    raised_from: int = 0
    raised_at: float = 0.0

    def picks(self, key: str, salt: str, now: float) -> bool:
        """Return whether an applicant belongs to the canary's share now; a larger share holds every smaller one."""
        weight = self.weight if now >= self.raised_at else self.raised_from
        return bucket(key, salt) < weight * (BUCKETS // 100)


class StableRoute(msgspec.Struct, frozen=True):
    """The version that a pod without one of its own serves."""

    version: str


class Route(msgspec.Struct, frozen=True):
    """The whole document."""

    generation: int
    salt: str
    stable: StableRoute | None = None
    canary: CanaryRoute | None = None


def bucket(key: str, salt: str) -> int:
    """Return an applicant's bucket, 0 to 9999: the same in every pod and over restarts."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def read_route(file: Path) -> Route | None:
    """Return the route, None where there is no file.

    Raises:
        msgspec.DecodeError: when the file holds no route.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Route)
    except FileNotFoundError:
        return None


async def watch_route(file: Path, seconds: float, changed: Callable[[Route | None], None]) -> None:
    """Tell of the route at start and whenever its file changes. A file that holds none leaves the last one standing.

    Polling, because the kubelet swaps a whole folder of links beneath a mounted ConfigMap: one stat per look.
    """
    last: object = ()
    while True:
        stamp = _stamp(file)
        if stamp != last:
            last = stamp
            try:
                changed(read_route(file))
            except (msgspec.DecodeError, OSError) as error:
                log.warning("the route in %s is not taken: %s", file, error)
        await asyncio.sleep(seconds)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
