"""Verified versions on the pod's own disk: all or nothing, checked at every use, and the one used last is found."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from scorer.model.identity import Identity
from scorer.model.readiness import ArtifactRejectedError
from scorer.model.version_cache import VersionCache


def files(version: str) -> dict[str, bytes]:
    return {"model.onnx": b"graph " + version.encode(), "contract.json": b"{}"}


def identity(version: str, name: str = "credit-risk") -> Identity:
    return Identity(name, version, "run", {key: sha256(value).hexdigest() for key, value in files(version).items()}, {})


@pytest.fixture
def cache(tmp_path: Path) -> VersionCache:
    return VersionCache(tmp_path / "cache")


def age(folder: Path, seconds: float) -> None:
    """Let a version have been used this long ago."""
    stamp = (folder / "identity.json").stat().st_mtime - seconds
    os.utime(folder / "identity.json", (stamp, stamp))


def test_a_version_is_found_with_its_files(cache: VersionCache) -> None:
    assert cache.find(identity("1")) is None
    folder = cache.store(identity("1"), files("1"))
    assert cache.find(identity("1")) == folder
    assert {name: (folder / name).read_bytes() for name in files("1")} == files("1")
    assert cache.find(identity("2")) is None


def test_an_empty_cache_has_no_version(cache: VersionCache) -> None:
    assert cache.last_verified("credit-risk", "") is None


def test_the_version_used_last_is_found_and_not_the_highest_number(cache: VersionCache) -> None:
    for seconds, version in enumerate(("2", "1")):
        age(cache.store(identity(version), files(version)), 10 - seconds)
    found = cache.last_verified("credit-risk", "")
    assert found is not None
    assert found[0] == identity("1")
    # The registry names version 2 again: its files are here already, and it is what the pod serves now.
    assert cache.find(identity("2"))
    found = cache.last_verified("credit-risk", "")
    assert found is not None
    assert found[0] == identity("2")


def test_with_a_number_only_that_version_is_found_and_only_of_the_model(cache: VersionCache) -> None:
    cache.store(identity("1"), files("1"))
    cache.store(identity("2", "cards"), files("2"))
    assert cache.last_verified("credit-risk", "2") is None
    found = cache.last_verified("credit-risk", "1")
    assert found is not None
    assert found[0] == identity("1")


@pytest.mark.parametrize("damaged", ["model.onnx", "contract.json", "identity.json"])
def test_a_damaged_version_is_not_found(cache: VersionCache, damaged: str) -> None:
    older = cache.store(identity("1"), files("1"))
    age(older, 10)
    newer = cache.store(identity("2"), files("2"))
    (newer / damaged).write_bytes(b"half")
    found = cache.last_verified("credit-risk", "")
    assert found is not None
    assert found == (identity("1"), older)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model.onnx": b"other"}, "model.onnx of version 1 of credit-risk has SHA-256 "),
        ({"model.onnx": None}, "version 1 of credit-risk has no file model.onnx"),
    ],
)
def test_files_that_are_not_the_versions_are_refused_and_the_stored_ones_stay(
    cache: VersionCache, tmp_path: Path, changed: dict[str, bytes | None], reason: str
) -> None:
    folder = cache.store(identity("1"), files("1"))
    given = {name: content for name, content in {**files("1"), **changed}.items() if content is not None}
    with pytest.raises(ArtifactRejectedError, match=reason):
        cache.store(identity("1"), given)
    assert cache.find(identity("1")) == folder
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [folder.name], "parts were left behind"


def test_a_version_without_a_digest_is_refused(cache: VersionCache) -> None:
    untagged = Identity("credit-risk", "1", "run", {}, {})
    with pytest.raises(ArtifactRejectedError, match=r"has no tag sha256\.model\.onnx"):
        cache.store(untagged, files("1"))
