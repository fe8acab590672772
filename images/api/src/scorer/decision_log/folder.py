"""The folder of a log, which one process holds for its whole life, and what all logs of its pod take on disk."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path


class LogFolder:
    """A folder with a lock that tells readers that this process may still write to it."""

    def __init__(self, pod_folder: Path) -> None:
        """Create the folder, locked from the moment it has its name.

        Raises:
            OSError: If it cannot be created.
        """
        # Not one of the process's decision ids, and not in their order: a log is known by its name alone.
        self.log_id = uuid.uuid4()
        self.path = pod_folder / str(self.log_id)
        self._segments = 0
        unfinished = pod_folder / f".{self.log_id}"
        unfinished.mkdir(parents=True)
        self._lock = os.open(unfinished / "lock", os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unfinished.rename(self.path)
        except OSError:
            os.close(self._lock)
            raise

    @property
    def exists(self) -> bool:
        """Whether the folder is still there."""
        return (self.path / "lock").exists()

    def next_segment(self) -> Path:
        """Return the file of the next segment."""
        self._segments += 1
        return self.path / f"segment-{self._segments:08d}.sqlite"

    def close(self) -> None:
        """Release the lock: nothing more will be written."""
        os.close(self._lock)


def bytes_in(pod_folder: Path) -> int:
    """Return what all logs of a pod take on disk, in bytes."""
    found = 0
    for folder, _, files in os.walk(pod_folder):
        for name in files:
            try:
                found += (Path(folder) / name).stat().st_size
            except FileNotFoundError:
                continue  # The shipper has just removed it.
    return found
