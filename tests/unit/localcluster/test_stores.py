"""Stores of unpacked images: at most one per node, with only the current images in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcluster.embedded import stores

STATE = Path("/var/lib/mine")
HEADING = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two stores of other nodes; the second one is newer."""
    for age, name in ((20, "old"), (10, "young")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "layers").write_text(name)
        owner = tmp_path / name / stores.OWNER
        owner.write_text(f"/var/lib/{name}")
        os.utime(owner, (1e9 - age, 1e9 - age))
    return tmp_path


def test_a_new_node_takes_over_the_newest_unused_store_and_removes_the_others(folder: Path) -> None:
    own = stores.claim(folder, "mine", STATE, in_use=lambda state: False)
    assert [store.name for store in folder.iterdir()] == ["mine"]
    assert (own / "layers").read_text() == "young"
    assert (own / stores.OWNER).read_text() == str(STATE)


def test_the_store_of_a_running_node_is_left_alone(folder: Path) -> None:
    own = stores.claim(folder, "mine", STATE, in_use=lambda state: state == Path("/var/lib/young"))
    assert (own / "layers").read_text() == "old"
    assert (folder / "young" / "layers").read_text() == "young"


def test_a_node_that_has_a_store_keeps_it(folder: Path) -> None:
    stores.claim(folder, "mine", STATE, in_use=lambda state: True)
    (folder / "mine" / "layers").write_text("mine")
    own = stores.claim(folder, "mine", STATE, in_use=lambda state: False)
    assert [store.name for store in folder.iterdir()] == ["mine"]
    assert (own / "layers").read_text() == "mine"


def test_a_store_without_an_owner_is_unused(tmp_path: Path) -> None:
    (tmp_path / "nameless").mkdir()
    stores.claim(tmp_path, "mine", STATE, in_use=lambda state: True)
    assert [store.name for store in tmp_path.iterdir()] == ["mine"]


def test_only_old_versions_are_stale_under_all_their_names() -> None:
    listed = HEADING + "".join(
        f"{reference} application/vnd.docker.distribution.manifest.v2+json {digest} 1.0 MiB linux/amd64 -\n"
        for reference, digest in (
            ("localhost/credit-risk/api:new", "sha256:a"),
            ("sha256:a-configuration", "sha256:a"),
            ("localhost/credit-risk/api:old", "sha256:b"),
            ("sha256:b-configuration", "sha256:b"),
            ("localhost/other/x:1", "sha256:c"),
            ("127.0.0.1:5999/credit-risk/api@sha256:d", "sha256:d"),
        )
    )
    stale = stores.stale(listed, {"localhost/credit-risk/api:new", "localhost/credit-risk/mlflow:not-yet-there"})
    assert stale == [
        "localhost/credit-risk/api:old", "sha256:b-configuration", "127.0.0.1:5999/credit-risk/api@sha256:d",
    ]  # fmt: skip


def test_an_empty_store_has_no_stale_images() -> None:
    assert stores.stale(HEADING, {"localhost/credit-risk/api:new"}) == []
