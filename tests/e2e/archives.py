"""The images as files, for tests of what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcluster.cluster import Cluster
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.images import DECISIONS, STACK, Image

# Building the decision log's image takes minutes, and few releases need it.
IMAGES = [
    *(pytest.param(image, id=image.name) for image in STACK),
    pytest.param(DECISIONS, id=DECISIONS.name, marks=pytest.mark.soak),
]


def archive_of(cluster: Cluster, image: Image) -> Path:
    """Return an image's archive, with uncompressed layers; skip the test on a cluster that has none."""
    if not isinstance(cluster, EmbeddedCluster):
        pytest.skip("Docker keeps images in its own store, not in archives")
    name = cluster.images((image,))[image.name].rpartition("/")[2].replace(":", "-")
    return cluster.paths.images / f"{name}.tar"
