"""Debian's Prometheus, unpacked once per process and not installed, because its package starts a server."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from environments import unpacked


@functools.cache
def _unpacked() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="prometheus-")
    unpacked("prometheus", Path(folder.name))
    return folder


def program(name: str) -> str:
    """Return the path of `promtool` or `prometheus`: the machine's own, else Debian's; skip the test elsewhere."""
    return shutil.which(name) or str(Path(_unpacked().name) / "usr/bin" / name)
