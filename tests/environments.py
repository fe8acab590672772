"""Packages that cannot live beside the project's own: each set in a folder of its own, pinned by hash."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from localcluster.paths import Paths


def packages(lock: Path) -> Path:
    """Return a folder that holds a lock's packages, for PYTHONPATH; it is made once and kept in the cache.

    Locks: uv pip compile - --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url
    --no-emit-find-links
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    target = Paths.from_environment().cache / f"{lock.stem}-{digest}-{sys.implementation.cache_tag}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not target.exists():
            partial, uv = target.with_suffix(".partial"), Path(sys.executable).with_name("uv")
            subprocess.run(
                [str(uv), "pip", "install", "--quiet", "--require-hashes", "--python", sys.executable,
                 "--target", str(partial), "--requirement", str(lock)],
                check=True,
            )  # fmt: skip
            partial.rename(target)
    return target
