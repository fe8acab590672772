"""The folder of a log: its segments, who writes to it, and who ships it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_SEGMENT = re.compile(r"segment-[0-9]{8}\.sqlite")
_LOCK, _SHIPPER_LOCK = "lock", "shipper.lock"
SET_ASIDE = ".damaged"
# What SQLite keeps beside a file; the file itself goes last, so that what is left can be told apart.
_SUFFIXES = ("-wal", "-shm", "")
# A process that never scored anything leaves a folder with a lock alone.
_UNUSED_SECONDS = 3600


@dataclass(frozen=True)
class LogFolder:
    """A log on disk: `<folder of all logs>/<pod>/<log id>`."""

    path: Path

    @property
    def pod(self) -> str:
        """The name of the folder of the pod's logs."""
        return self.path.parent.name

    @property
    def log_id(self) -> UUID:
        """The log's id."""
        return UUID(self.path.name)

    @property
    def state_file(self) -> Path:
        """Where the shipper keeps how far it is."""
        return self.path / "shipped.json"

    def segments(self) -> list[Path]:
        """Return the files of its segments, the oldest first."""
        return sorted(file for file in self._files() if _SEGMENT.fullmatch(file.name))

    def set_aside(self) -> list[Path]:
        """Return the segments that were set aside because they are damaged."""
        return [file for file in self._files() if file.name.endswith(".sqlite" + SET_ASIDE)]

    def writer_is_gone(self) -> bool:
        """Return whether nobody will write to it any more."""
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def claim(self) -> Claim | None:
        """Claim it for this shipper until the claim is released; None if another shipper has it, or it is gone."""
        try:
            descriptor = os.open(self.path / _SHIPPER_LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return Claim(descriptor)

    def remove_if_used_up(self) -> bool:
        """Remove it if it has no segments, and its writer, which is gone, will leave none; return whether it did."""
        if self.segments() or self.set_aside() or not self.writer_is_gone():
            return False
        with contextlib.suppress(FileNotFoundError):
            if not self.state_file.exists() and time.time() - self.path.stat().st_mtime < _UNUSED_SECONDS:
                return False
            for file in self._files():
                file.unlink(missing_ok=True)
            self.path.rmdir()
            with contextlib.suppress(OSError):  # other logs of the pod
                self.path.parent.rmdir()
        return True

    def _files(self) -> list[Path]:
        try:
            return list(self.path.iterdir())
        except FileNotFoundError:
            return []


@dataclass
class Claim:
    """A log that this process alone ships."""

    _descriptor: int

    def release(self) -> None:
        """Leave the log to others."""
        os.close(self._descriptor)


def find_logs(folder: Path) -> Iterator[LogFolder]:
    """Yield the logs in the folder of all logs, the pods in the order of their names."""
    for path in sorted(folder.glob("*/*")):
        with contextlib.suppress(ValueError):
            if path.is_dir() and str(UUID(path.name)) == path.name:
                yield LogFolder(path)


def size_of(segment: Path) -> int:
    """Return what a segment takes on disk, in bytes."""
    total = 0
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            total += segment.with_name(segment.name + suffix).stat().st_size
    return total


def remove(segment: Path) -> None:
    """Delete a segment with what SQLite keeps beside it."""
    for suffix in _SUFFIXES:
        segment.with_name(segment.name + suffix).unlink(missing_ok=True)


def set_aside(segment: Path) -> Path:
    """Rename a damaged segment so that nobody takes it for one, and return its new file."""
    target = segment.with_name(segment.name + SET_ASIDE)
    for suffix in _SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            segment.with_name(segment.name + suffix).rename(target.with_name(target.name + suffix))
    return target
