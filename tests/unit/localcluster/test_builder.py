"""What the builder keeps: the newest images, and no more leftovers of builds than there is room for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcluster.embedded import builder
from localcluster.embedded.builder import Builder
from localcluster.images import Image
from localcluster.paths import Paths

# Writes down its command, makes the archive that it is told to push, and lists three images, the newest first.
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
    """The record of what buildah was asked; the repository holds one image, `x`."""
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
    """Build `x` beside archives of it that are ten and twenty seconds old, and return the archives of `x` there are."""
    paths = Paths(cache=folder / "cache", state=folder / "state")
    (paths.cache / "buildah").mkdir(parents=True)
    paths.images.mkdir()
    for age, name in ((10, "x-before"), (20, "x-oldest"), (30, "y-other")):
        archive = paths.images / f"{name}.tar"
        archive.touch()
        os.utime(archive, (archive.stat().st_atime - age, archive.stat().st_mtime - age))
    Builder(paths).build((Image("x", "Dockerfile", ()),))
    return {archive.name for archive in paths.images.glob("[xy]-*.tar")}


def test_the_newest_two_images_of_a_name_stay(tmp_path: Path, commands: Path) -> None:
    archives = build(tmp_path)
    assert len(archives) == 3
    assert {"x-before.tar", "y-other.tar"} < archives
    assert "rmi localhost/credit-risk/x:oldest" in commands.read_text().splitlines()


@pytest.mark.parametrize(("limit", "pruned"), [(12, False), (-1, True)])
def test_leftovers_of_builds_go_when_they_have_grown_too_large(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch, limit: int, pruned: bool
) -> None:
    monkeypatch.setattr(builder, "STORE_GIB", limit)
    build(tmp_path)
    assert ("rmi --prune" in commands.read_text().splitlines()) is pruned
