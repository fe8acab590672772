"""Which arm answers which applicant: the route that the operator writes, and the applicants' buckets."""

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
    """The canary's address and its share of the applicants, in percent.

    The share is `previous_weight` until `effective_at`, in seconds since 1970, and `weight` from then on. All pods know
    a larger weight before it takes effect, so that it grows in all of them at once and no applicant flips back.
    """

    version: str
    url: str
    weight: int
    mode: Literal["live", "shadow"]
    deadline_milliseconds: int
    previous_weight: int = 0
    effective_at: float = 0.0

    def includes(self, key: str, salt: str, now: float) -> bool:
        """Return whether an applicant is in the canary's share now; a larger share includes every smaller one."""
        weight = self.weight if now >= self.effective_at else self.previous_weight
        return bucket(key, salt) < weight * (BUCKETS // 100)


class StableRoute(msgspec.Struct, frozen=True):
    """The version for pods that have none of their own."""

    version: str


class Route(msgspec.Struct, frozen=True):
    """The whole document: contracts/route.schema.json."""

    generation: int
    salt: str
    stable: StableRoute | None = None
    canary: CanaryRoute | None = None


def bucket(key: str, salt: str) -> int:
    """Return an applicant's bucket, 0 to 9999: the same in every pod and across restarts."""
    digest = hashlib.blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def read_route(file: Path) -> Route | None:
    """Return the route, None if there is no file.

    Raises:
        msgspec.DecodeError: If the file is not a route.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Route)
    except FileNotFoundError:
        return None


async def watch_route(file: Path, seconds: float, changed: Callable[[Route | None], None]) -> None:
    """Report the route now and whenever its file changes; an invalid file leaves the last route in effect.

    Polling, because the kubelet swaps a whole tree of symlinks below a mounted ConfigMap: one stat per poll.
    """
    last: object = ()
    while True:
        stamp = _stamp(file)
        if stamp != last:
            last = stamp
            try:
                changed(read_route(file))
            except (msgspec.DecodeError, OSError) as error:
                log.warning("ignored the route in %s: %s", file, error)
        await asyncio.sleep(seconds)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
