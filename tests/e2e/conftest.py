"""The cluster that `make up` would choose, brought up for the tests and left as it was found."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import REAL_LOANS
from localcluster.__main__ import choose
from localcluster.console import ClusterError
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import Cluster, Stack

NAMESPACE = "e2e"
HOST = "e2e.credit-risk.test"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ready cluster; taken down at the end unless it was there before."""
    chosen = choose("auto")
    if isinstance(chosen, EmbeddedCluster) and not chosen.running() and (missing := _missing()):
        pytest.skip(f"no cluster can run here: {missing}")
    was_running = chosen.running()
    try:
        chosen.up()
    except ClusterError as error:
        if not was_running:
            chosen.down()
        pytest.fail(str(error))
    yield chosen
    if not was_running:
        chosen.down()


@pytest.fixture(scope="session")
def stack(cluster: Cluster) -> Iterator[Stack]:
    """The charts installed in a namespace of their own, with a model trained on real loans where they are."""
    installed = Stack(cluster, namespace=NAMESPACE, host=HOST)
    images = cluster.images()
    data = _data()
    installed.install(images, train=data is None)
    if data:
        installed.wait_for_store()
        installed.install(images, ["--set-string", f"training.data={installed.upload(data)}"])
    installed.wait_for_training()
    installed.wait_for_scoring()
    yield installed
    installed.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _data() -> Path | None:
    return REAL_LOANS if REAL_LOANS.exists() else None


def _missing() -> str | None:
    if sys.platform != "linux" or "bookworm" not in Path("/etc/os-release").read_text():
        return "neither Docker with kind, nor Debian 12 for the embedded cluster"
    if os.geteuid() != 0:
        return "neither Docker with kind, nor root for the embedded cluster"
    return None
