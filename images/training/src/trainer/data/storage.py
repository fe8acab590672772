"""Where the arrays of training rows are: in memory, or in files of the scratch volume that are mapped into it."""

import fcntl
import math
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trainer.errors import BadInputError

_PREFIX = "training-rows-"
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(k|[MGT]|[KMGT]i)?")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


class Storage(Protocol):
    """A place for arrays."""

    @property
    def is_mapped(self) -> bool:
        """Whether the arrays are files, which may be larger than memory."""

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array to fill; one of the same name that is still in use stays what it is."""

    def discard(self, prefix: str) -> None:
        """Give back the arrays whose names begin so, once they are no longer used."""


class Memory:
    """Arrays in memory."""

    is_mapped = False

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:  # noqa: ARG002
        """Return an uninitialized array."""
        return np.empty(shape, dtype)

    def discard(self, prefix: str) -> None:
        """Do nothing: memory is given back by itself."""


class Scratch:
    """Arrays in files of a folder of its own, which is deleted together with this object, at the latest at exit.

    Each file is an .npy file, so that another process of the pod can open it by `numpy.load(path, mmap_mode="r")`. What
    the kernel keeps of the files in memory, it gives back when memory is short.
    """

    is_mapped = True

    def __init__(self, parent: Path, *, limit: int | None = None) -> None:
        """Create the folder.

        Args:
            parent: Where to create it.
            limit: Bytes that `parent` may hold, if that is less than what the volume has.

        Raises:
            BadInputError: The folder cannot be created.
        """
        self.limit = limit
        folder = _locked_folder(parent)
        self.folder = folder.path
        weakref.finalize(self, folder.delete)

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return a mapped array of zeros.

        Raises:
            BadInputError: The volume is too small for it.
        """
        if not math.prod(shape):
            return np.empty(shape, dtype)
        path = self.folder / f"{name}.npy"
        # Another array of this name may be mapped: its file lives on, without a name.
        path.unlink(missing_ok=True)
        self.require(math.prod(shape) * np.dtype(dtype).itemsize)
        with self.writing():
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            # Without its blocks, a full volume would end the process by a signal at some later write.
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return np.asarray(array)

    def discard(self, prefix: str) -> None:
        """Delete the files whose names begin so; arrays in use live on without a name."""
        for path in self.folder.glob(f"{prefix}*"):
            path.unlink()

    @property
    def available(self) -> int:
        """Bytes that can still be written."""
        return room(self.folder.parent, self.limit)

    def require(self, needed: int) -> None:
        """Require room.

        Raises:
            BadInputError: There are fewer than `needed` bytes; the message says what there is and what helps.
        """
        if problem := lacking(needed, self.available):
            raise self._too_small(problem)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise what the operating system says about a full volume as a `BadInputError`."""
        try:
            yield
        except OSError as error:
            raise self._too_small(error.strerror or str(error)) from error

    def _too_small(self, problem: str) -> BadInputError:
        return too_small(self.folder.parent, "the training rows", problem)


def room(volume: Path, limit: int | None) -> int:
    """Return the bytes that can still be written to a scratch volume, of which at most `limit` may be in use."""
    free = shutil.disk_usage(volume).free
    if limit is None:
        return free
    held = 0
    # Other processes of the pod delete files meanwhile.
    for folder, _, names in os.walk(volume):
        for name in names:
            with suppress(OSError):
                held += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return min(free, limit - held)


def lacking(needed: int, available: int) -> str | None:
    """Return what is wrong if fewer than `needed` bytes are available."""
    if needed <= available:
        return None
    return f"{_in_words(needed)} more are needed, and {_in_words(max(available, 0))} are left"


def too_small(volume: Path, what: str, problem: str) -> BadInputError:
    """Return the error of a scratch volume that cannot take something."""
    return BadInputError(
        f"the scratch volume {volume} cannot take {what}: {problem}; make it larger (the chart's scratch.size), or "
        "choose another one (--scratch-dir)"
    )


@contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Provide a folder that is deleted afterwards, and what killed processes left behind before.

    Raises:
        BadInputError: It cannot be created.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--scratch-dir {parent}: {error.strerror}") from error
    folder = _locked_folder(parent)
    try:
        yield folder.path
    finally:
        folder.delete()


@dataclass(frozen=True)
class _LockedFolder:
    """A folder of this process, which others delete once it has ended, however it ended."""

    path: Path
    lock: int

    def delete(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def _locked_folder(parent: Path) -> _LockedFolder:
    try:
        with _locked(parent):
            _delete_abandoned(parent)
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise BadInputError(f"--scratch-dir {parent}: {error.strerror}") from error
    return _LockedFolder(path, lock)


def _delete_abandoned(parent: Path) -> None:
    """Delete what processes left behind that were killed: the next one in the pod may need the room."""
    for folder in parent.glob(f"{_PREFIX}*"):
        # Fails while the folder's process lives, and for folders of other users.
        with suppress(OSError), _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)


def parse_size(text: str) -> int | None:
    """Return the bytes of a size as Kubernetes writes it, such as 10Gi, or None for "".

    Raises:
        BadInputError: It is no such size.
    """
    if not text:
        return None
    if not (found := _QUANTITY.fullmatch(text)):
        raise BadInputError(f"--scratch-size {text}: must be a size such as 500Mi, 10Gi or 2G")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def _in_words(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
