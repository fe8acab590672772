"""A Java that Spark runs on: the machine's own, else Debian's, unpacked once into the cache and not installed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

from environments import unpacked
from localcluster.paths import Paths

_MAJORS = ("17", "21")
_PACKAGE = "openjdk-17-jre-headless"
_SETTINGS = Path("/etc/java-17-openjdk")


def java_home() -> Path:
    """Return the folder of a Java of a version that Spark supports; skip the test where there is none."""
    own = shutil.which("java")
    if own and _major(own) in _MAJORS:
        return Path(own).resolve().parents[1]
    cache = Paths.from_environment().cache
    target = cache / _PACKAGE
    cache.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _unpack(target)
    (home,) = target.glob("usr/lib/jvm/java-17-openjdk-*")
    return home


def _major(program: str) -> str:
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    return found[1] if found else ""


def _unpack(target: Path) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    unpacked(_PACKAGE, partial)
    # Debian links each file of settings to /etc, where an unpacked package puts none.
    for link in partial.rglob("*"):
        if link.is_symlink() and (to := link.readlink()).is_relative_to(_SETTINGS):
            link.unlink()
            link.symlink_to(os.path.relpath(partial / to.relative_to("/"), link.parent))
    partial.rename(target)
