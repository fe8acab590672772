from __future__ import annotations

from pathlib import Path

import pytest

from localcluster import images
from localcluster.paths import REPOSITORY


def test_an_images_tag_depends_on_its_inputs_and_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "REPOSITORY", tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "src").mkdir()
    source = tmp_path / "src" / "a.py"
    source.write_text("1")
    image = images.Image("x", "Dockerfile", ("src",))
    before = image.reference("base")
    assert image.reference("base") == before
    assert image.reference("other base") != before
    source.write_text("2")
    assert image.reference("base") != before
    source.write_text("1")
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_text("compiled")
    assert image.reference("base") == before


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.name)
def test_an_images_inputs_are_what_its_dockerfile_copies(image: images.Image) -> None:
    lines = [line.split() for line in (REPOSITORY / image.dockerfile).read_text().splitlines()]
    copied = {source for line in lines if line[:1] == ["COPY"] and "--from=build" not in line for source in line[1:-1]}
    assert copied == set(image.inputs)
