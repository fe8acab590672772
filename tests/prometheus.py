"""Debian's Prometheus, unpacked once per process and not installed, because its package starts a server."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from environments import unpacked
from processes import answers, free_port, running


@functools.cache
def _unpacked() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="prometheus-")
    unpacked("prometheus", Path(folder.name))
    return folder


def program(name: str) -> str:
    """Return the path of `promtool` or `prometheus`: the machine's own, else Debian's; skip the test elsewhere."""
    return shutil.which(name) or str(Path(_unpacked().name) / "usr/bin" / name)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run Prometheus for the length of the block; yield its address.

    Args:
        folder: Has prometheus.yaml, and its data in `data` if there are any already.
    """
    url = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={url}",
    ]  # fmt: skip
    with running(command, folder / "log", lambda: answers(f"http://{url}/-/ready")):
        yield f"http://{url}"
