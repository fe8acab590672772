"""What the stack needs from a cluster, whichever kind it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from localcluster.images import STACK, Image
from localcluster.paths import Paths
from localcluster.ports import Ports


class Cluster(Protocol):
    """A local cluster: kind or embedded."""

    @property
    def name(self) -> str:
        """Name of the kind of cluster: kind or embedded."""
        ...

    @property
    def paths(self) -> Paths:
        """Folders of its cache, state and logs."""
        ...

    @property
    def ports(self) -> Ports:
        """Ports of the host's loopback address that lead to it."""
        ...

    @property
    def values(self) -> Path:
        """Chart values for this kind of cluster."""
        ...

    @property
    def monitoring_images(self) -> tuple[Image, ...]:
        """Images of the chart monitoring that must be built, because this kind of cluster pulls none."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        ...

    def up(self) -> None:
        """Bring the cluster up unless it is Ready already."""
        ...

    def down(self) -> None:
        """Remove the cluster and everything it created on the host."""
        ...

    def running(self) -> bool:
        """Return whether the cluster is running."""
        ...

    def images(self, wanted: Sequence[Image] = STACK) -> dict[str, str]:
        """Build and load these images and return each image's reference by its name, with those that come with them."""
        ...

    def status(self) -> list[str]:
        """Return lines that describe what is running."""
        ...
