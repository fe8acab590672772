"""Which process scores which shard: claims, as files in the output folder.

A claim is a file that only one process can create. Its holder writes it again and again while it scores; whoever sees
it unchanged for the time of a lease, by its own clock, creates the next claim of the shard, with the next number. A
holder looks for such a one before it publishes. So no clock is compared with another, and nothing but the folder is
needed.

Claims save work. That results are published once and whole is not left to them: a shard's note is created only once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from creditrisk_scoring.creation import create
from creditrisk_scoring.errors import BulkError, ClaimLostError
from creditrisk_scoring.folders import Folder, state_of
from creditrisk_scoring.manifest import Shard

CLAIMS = "_bulk/claims"
# After how much of a lease a claim is written again, and others are looked at: three times may be missed. Not more
# seldom than in so many seconds, because a run's status is read from claims.
_RENEWED_AFTER = 0.25
_RENEWED_AFTER_SECONDS = 5.0
log = logging.getLogger("creditrisk_scoring")


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a claim's file says. An empty file is a claim that was given back.

    Attributes:
        worker: Who scores: a pod's name, or a machine and a process.
        rows: Rows of the shard that it has read so far.
        seconds: Since it began.
        lease: Seconds without a change after which others take the shard over.
    """

    worker: str
    rows: int
    seconds: float
    lease: float


@dataclass(frozen=True)
class _Look:
    """A shard's newest claim as it was found: its number, its file's size and time, and when this was first seen."""

    number: int
    state: tuple[int, int]
    seen: float


@dataclass
class Claims:
    """The claims of a run, as one process sees and makes them.

    Attributes:
        target: The output folder.
        worker: The name of this process.
        lease: Seconds without a change after which a claim is over. S3 tells times in whole seconds: at least 4 there.
        clock: Seconds that only grow.
        sleep: Waits for so many seconds.
    """

    target: Folder
    worker: str
    lease: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _newest: dict[str, _Look] = field(default_factory=dict)

    @property
    def renewed_after(self) -> float:
        """After how many seconds a claim is written again."""
        return min(self.lease * _RENEWED_AFTER, _RENEWED_AFTER_SECONDS)

    def look(self) -> None:
        """Read from the folder which shards are claimed."""
        now, found = self.clock(), dict[str, _Look]()
        for info in self.target.files(CLAIMS):
            shard, number = parsed(self.target.name_of(info))
            before, look = self._newest.get(shard), _Look(number, state_of(info), now)
            if before is not None and (before.number, before.state) == (look.number, look.state):
                look = before
            if shard not in found or found[shard].number < number:
                found[shard] = look
        self._newest = found

    def take(self, shard: Shard) -> HeldClaim | None:
        """Claim a shard, unless another process has; `look` says what is known of others."""
        newest = self._newest.get(shard.name)
        if newest is not None and newest.state[0] and self.clock() - newest.seen < self.lease:
            return None
        held = HeldClaim(self, shard, 1 if newest is None else newest.number + 1, began=self.clock())
        if not create(self.target, file_of(shard, held.number), held.document()):
            return None
        if newest is not None and newest.state[0]:
            log.info("%s: its claim has not changed for %g s, and is taken over", shard.name, self.lease)
        return held

    def wait(self) -> None:
        """Wait until another look may be worthwhile."""
        self.sleep(self.renewed_after)


@dataclass
class HeldClaim:
    """A claim of this process.

    Attributes:
        claims: Whose it is.
        shard: What is claimed.
        number: The how-manieth claim of the shard it is.
        began: When, by the clock.
        rows: Rows that were read so far.
    """

    claims: Claims
    shard: Shard
    number: int
    began: float
    rows: int = 0
    _written: float = field(init=False)

    def __post_init__(self) -> None:
        """Count the lease from the beginning."""
        self._written = self.began

    @property
    def seconds(self) -> float:
        """How long this process has had the shard."""
        return self.claims.clock() - self.began

    def document(self) -> bytes:
        """Return what the file says now."""
        return msgspec.json.encode(Claim(self.claims.worker, self.rows, round(self.seconds, 3), self.claims.lease))

    def progressed(self, rows: int) -> None:
        """Count rows that were read, and from time to time write the claim again.

        Raises:
            ClaimLostError: What `confirm` raises.
        """
        self.rows += rows
        if self.claims.clock() - self._written >= self.claims.renewed_after:
            self.confirm()
            self.claims.target.write(file_of(self.shard, self.number), self.document())
            self._written = self.claims.clock()

    def confirm(self) -> None:
        """Make sure that nobody has taken the shard over.

        Raises:
            ClaimLostError: Somebody has, or the run is over.
        """
        target = self.claims.target
        if target.state(file_of(self.shard, self.number + 1)) or not target.state(file_of(self.shard, self.number)):
            raise ClaimLostError(f"{self.shard.name} was taken over by another process")

    def give_back(self) -> None:
        """Let others have the shard at once, if the folder can be reached."""
        try:
            self.confirm()
            self.claims.target.write(file_of(self.shard, self.number), b"")
        except ClaimLostError:
            log.debug("%s is not this process's any more", self.shard.name)
        except BulkError as error:
            log.warning("%s: others wait until its claim is over: %s", self.shard.name, error)


def file_of(shard: Shard, number: int) -> str:
    """Return the name of a claim's file."""
    return f"{CLAIMS}/{shard.name}.{number}"


def parsed(name: str) -> tuple[str, int]:
    """Return the shard's name and the number of a claim, by its file's name.

    Raises:
        BulkError: It is none.
    """
    shard, _, number = name.rpartition("/")[2].partition(".")
    if not number.isdecimal():
        raise BulkError(f"{name} is no claim of this program")
    return shard, int(number)
