"""What tests need besides the project's own environment: packages that conflict with it, and programs from Debian."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from localcluster.console import ClusterError
from localcluster.packages import apt_install
from localcluster.paths import Paths


def packages(lock: Path) -> Path:
    """Return a folder with a lock's packages, for PYTHONPATH; it is created once and kept in the cache.

    Create locks with: uv pip compile - --python-version 3.11 --generate-hashes --no-annotate --no-header
    --no-emit-index-url --no-emit-find-links
    """
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    target = Paths.from_environment().cache / f"{lock.stem}-{digest}-{sys.implementation.cache_tag}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not target.exists():
            partial, uv = target.with_suffix(".partial"), Path(sys.executable).with_name("uv")
            subprocess.run(
                [str(uv), "pip", "install", "--quiet", "--require-hashes", "--python", sys.executable,
                 "--target", str(partial), "--requirement", str(lock)],
                check=True,
            )  # fmt: skip
            partial.rename(target)
    return target


def installed(*names: str, packages: Sequence[str]) -> list[str]:
    """Return the paths of programs, installed from Debian packages if necessary; skip the test if they are missing."""
    if not all(map(shutil.which, names)) and shutil.which("apt-get") and not os.geteuid():
        with tempfile.TemporaryDirectory() as logs, contextlib.suppress(ClusterError):
            apt_install(list(packages), Path(logs) / "apt.log")
    found = [path for path in map(shutil.which, names) if path]
    if len(found) < len(names):
        pytest.skip(f"needs the Debian packages {' and '.join(packages)}")
    return found


def postgres_programs() -> Path:
    """Return the folder of Debian's newest Postgres programs, installed where that can be done; else skips the test.

    Only pg_ctl's wrapper and the client's programs are on the PATH.
    """
    server = Path("/usr/lib/postgresql")
    if not list(server.glob("*/bin/initdb")) and shutil.which("apt-get") and not os.geteuid():
        with tempfile.TemporaryDirectory() as logs, contextlib.suppress(ClusterError):
            apt_install(["postgresql-15"], Path(logs) / "apt.log")
    if not (found := sorted(server.glob("*/bin/initdb"))):
        pytest.skip("needs Debian's postgresql-15")
    return found[-1].parent


def unpacked(package: str, folder: Path) -> Path:
    """Unpack a Debian package into a folder without installing it, and return the folder; skip elsewhere."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"needs the Debian package {package}, and this is not Debian")
    with tempfile.TemporaryDirectory() as place:
        download = ["apt-get", "download", package]
        fetched = subprocess.run(download, cwd=place, capture_output=True, text=True)
        if fetched.returncode != 0:
            # A fresh machine has no package lists yet.
            subprocess.run(["apt-get", "update", "--quiet"], capture_output=True)
            fetched = subprocess.run(download, cwd=place, capture_output=True, text=True)
        assert fetched.returncode == 0, fetched.stderr
        (file,) = Path(place).glob("*.deb")
        subprocess.run(["dpkg", "-x", str(file), str(folder)], check=True)
    return folder
