"""The copy of a version's files that the operator mounts: put together from its pieces, and never trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scorer.model.artifact_copy import restore_copy
from scorer.model.readiness import ArtifactRejectedError
from scorer.model.version_cache import VersionCache
from unit.scorer.contracts import agreement

GOLDEN: dict[str, Any] = agreement("golden/artifact-copy.json")
PIECES = {"model.onnx.000": b"gra", "model.onnx.001": b"ph", "contract.json.000": b"{}"}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The volume as the golden manifest describes it."""
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(GOLDEN))
    for name, content in PIECES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> VersionCache:
    return VersionCache(tmp_path / "cache")


def test_the_golden_copy_is_put_together(volume: Path, cache: VersionCache) -> None:
    found = restore_copy(volume, cache, "credit-risk", "7")
    assert found
    identity, folder = found
    assert (identity.name, identity.version, identity.run_id) == ("credit-risk", "7", "0a1b2c")
    assert (identity.digests, identity.metrics) == (GOLDEN["digests"], GOLDEN["metrics"])
    assert {name: (folder / name).read_bytes() for name in ("model.onnx", "contract.json")} == {
        "model.onnx": b"graph", "contract.json": b"{}"}  # fmt: skip
    assert cache.last_verified("credit-risk", "") == (identity, folder)


@pytest.mark.parametrize(("name", "version"), [("credit-risk", "8"), ("cards", "7"), ("credit-risk", "")])
def test_a_copy_of_something_else_is_ignored(volume: Path, cache: VersionCache, name: str, version: str) -> None:
    assert restore_copy(volume, cache, name, version) is None


def test_without_a_volume_there_is_no_copy(tmp_path: Path, cache: VersionCache) -> None:
    assert restore_copy(tmp_path / "absent", cache, "credit-risk", "7") is None
    (tmp_path / "empty").mkdir()
    assert restore_copy(tmp_path / "empty", cache, "credit-risk", "7") is None


def refused(volume: Path, cache: VersionCache) -> str:
    """Return why a copy is refused; nothing of it is kept then."""
    with pytest.raises(ArtifactRejectedError) as raised:
        restore_copy(volume, cache, "credit-risk", "7")
    assert cache.last_verified("credit-risk", "") is None
    return str(raised.value)


@pytest.mark.parametrize("piece", PIECES)
def test_a_copy_without_one_of_its_pieces_is_refused(volume: Path, cache: VersionCache, piece: str) -> None:
    (volume / piece).unlink()
    file = piece.rpartition(".")[0]
    assert f"the copy of version 7 of credit-risk in the cluster lacks a piece of {file}" in refused(volume, cache)


@pytest.mark.parametrize("piece", PIECES)
def test_a_copy_with_other_bytes_is_refused(volume: Path, cache: VersionCache, piece: str) -> None:
    (volume / piece).write_bytes(b"no")
    assert "has SHA-256" in (message := refused(volume, cache))
    assert f"the operator recorded {GOLDEN['digests'][piece.rpartition('.')[0]]}" in message


def test_pieces_in_another_order_are_refused(volume: Path, cache: VersionCache) -> None:
    files = {**GOLDEN["files"], "model.onnx": ["model.onnx.001", "model.onnx.000"]}
    (volume / "manifest.json").write_text(json.dumps({**GOLDEN, "files": files}))
    assert "model.onnx of the copy" in refused(volume, cache)


@pytest.mark.parametrize("key", GOLDEN)
def test_a_manifest_that_lacks_something_is_refused(volume: Path, cache: VersionCache, key: str) -> None:
    (volume / "manifest.json").write_text(json.dumps({k: v for k, v in GOLDEN.items() if k != key}))
    assert "no valid manifest.json" in refused(volume, cache)


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b'{"version": 7}'])
def test_a_manifest_that_is_none_is_refused(volume: Path, cache: VersionCache, text: bytes) -> None:
    (volume / "manifest.json").write_bytes(text)
    assert "no valid manifest.json" in refused(volume, cache)


def test_a_manifest_without_one_of_the_files_is_refused(volume: Path, cache: VersionCache) -> None:
    files = {"model.onnx": GOLDEN["files"]["model.onnx"]}
    (volume / "manifest.json").write_text(json.dumps({**GOLDEN, "files": files}))
    assert refused(volume, cache) == "version 7 of credit-risk has no file contract.json"


def test_a_piece_outside_the_volume_is_not_read(volume: Path, cache: VersionCache) -> None:
    (volume.parent / "secret").write_bytes(b"graph")
    files = {**GOLDEN["files"], "model.onnx": ["../secret"]}
    (volume / "manifest.json").write_text(json.dumps({**GOLDEN, "files": files}))
    assert "lacks a piece of model.onnx" in refused(volume, cache)
