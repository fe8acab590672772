"""What the builder keeps: the newest images, and a limited amount of build leftovers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcluster.embedded import builder
from localcluster.embedded.builder import Builder
from localcluster.images import Image
from localcluster.paths import Paths

# Records its command, creates the archive on `push`, and lists three images, newest first.
BUILDAH = r"""#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift 2; done
echo "$@" >> "$COMMANDS"
case $1 in
    push) target=${4#docker-archive:}; echo image > "${target%%:*}" ;;
    images) printf 'localhost/credit-risk/x:%s\n' newest before oldest ;;
esac
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of buildah's commands; the repository has one image, `x`."""
    program = tmp_path / "bin" / "buildah"
    program.parent.mkdir()
    program.write_text(BUILDAH)
    program.chmod(0o755)
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    monkeypatch.setattr("localcluster.images.REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("COMMANDS", str(tmp_path / "commands"))
    return tmp_path / "commands"


def build(folder: Path) -> set[str]:
    """Build `x` when there are two older archives of it, and return the archives that are left."""
    paths = Paths(cache=folder / "cache", state=folder / "state")
    (paths.cache / "buildah").mkdir(parents=True)
    paths.images.mkdir()
    for age, name in ((10, "x-before"), (20, "x-oldest"), (30, "y-other")):
        archive = paths.images / f"{name}.tar"
        archive.touch()
        os.utime(archive, (archive.stat().st_atime - age, archive.stat().st_mtime - age))
    Builder(paths).build((Image("x", "Dockerfile", ()),))
    return {archive.name for archive in paths.images.glob("[xy]-*.tar")}


def test_the_two_newest_images_of_a_name_are_kept(tmp_path: Path, commands: Path) -> None:
    archives = build(tmp_path)
    assert len(archives) == 3
    assert {"x-before.tar", "y-other.tar"} < archives
    assert "rmi localhost/credit-risk/x:oldest" in commands.read_text().splitlines()


@pytest.mark.parametrize(("limit", "pruned"), [(12, False), (-1, True)])
def test_build_leftovers_are_removed_once_they_have_grown_too_large(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch, limit: int, pruned: bool
) -> None:
    monkeypatch.setattr(builder, "STORE_GIB", limit)
    build(tmp_path)
    assert ("rmi --prune" in commands.read_text().splitlines()) is pruned
