"""The models' files in the archive: each once, by its digest, for good."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator

import msgspec
import psycopg
import pytest

from decisions.archive.artifacts import Kept, artifact_key, keep_artifacts
from decisions.archive.registry import Registry
from decisions.records.model_versions import ModelVersion
from unit.decisions.archive.site import Site, noon
from unit.decisions.replay.registry import MlflowServer, mlflow_of_files

CONTRACT, NETWORK = b'{"a": "contract"}', b"a network"


@pytest.fixture
def registry() -> Iterator[MlflowServer]:
    with mlflow_of_files() as found:
        yield found


def add_version(site: Site, number: str, network: bytes = NETWORK, digest: str | None = None) -> ModelVersion:
    """Write a version as the shipper does; the registry does not have it yet."""
    of_network = hashlib.sha256(network).hexdigest() if digest is None else digest
    digests = {"model.onnx": of_network, "contract.json": hashlib.sha256(CONTRACT).hexdigest()}
    version = ModelVersion("credit-risk", number, digests, CONTRACT)
    site.writer.execute(
        "INSERT INTO model_versions VALUES (%s, %s, %s, %s, %s)",
        [version.id, version.name, version.version, msgspec.json.encode(version.digests).decode(), version.contract],
    )
    return version


def keep(site: Site, registry: MlflowServer | None) -> Kept:
    with psycopg.connect(site.database.url("owner"), autocommit=True) as owner:
        owner.execute("DELETE FROM model_versions WHERE version NOT LIKE '10%'")
        return keep_artifacts(owner, site.bucket, Registry(registry.url) if registry else None)


def test_each_file_is_kept_once_by_its_digest(site: Site, registry: MlflowServer) -> None:
    for number in ("101", "102"):
        add_version(site, number)
    add_version(site, "103", b"another network")
    registry.files = {("101", "model.onnx"): NETWORK, ("103", "model.onnx"): b"another network"}
    assert keep(site, registry) == Kept(3, ())
    keys = {artifact_key(hashlib.sha256(content).hexdigest()): content
            for content in (CONTRACT, NETWORK, b"another network")}  # fmt: skip
    assert {key: site.bucket.read(key) for key in site.bucket.keys("models/")} == keys
    # Neither asked for nor written again.
    registry.asked.clear()
    written = site.bucket.client.head_object(Bucket=site.bucket.name, Key=f"stack/{next(iter(keys))}")["LastModified"]
    assert keep(site, registry) == Kept(0, ())
    assert registry.asked == []
    now = site.bucket.client.head_object(Bucket=site.bucket.name, Key=f"stack/{next(iter(keys))}")["LastModified"]
    assert now == written


def test_what_cannot_be_kept_is_told_and_tried_again(
    site: Site, registry: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    add_version(site, "101")
    add_version(site, "102", b"another network")
    registry.files = {("102", "model.onnx"): b"another network"}
    assert keep(site, registry) == Kept(2, ("credit-risk 101",))
    assert f"version 101 of model credit-risk is not kept, and tried again by the next run: model.onnx: the registry " \
           f"at {registry.url} has it no more" in caplog.text  # fmt: skip
    for failing, words in ((500, "answered 500"), (503, "answered 503")):
        registry.failing = failing
        caplog.clear()
        assert keep(site, registry) == Kept(0, ("credit-risk 101",))
        assert words in caplog.text
    registry.failing = None
    registry.files["101", "model.onnx"] = b"not what it was"
    assert keep(site, registry).missing == ("credit-risk 101",)
    assert f"instead of {hashlib.sha256(NETWORK).hexdigest()}" in caplog.text
    assert keep(site, None).missing == ("credit-risk 101",)
    assert "no registry is configured (DECISIONS_MLFLOW_URL)" in caplog.text
    assert len(site.bucket.keys("models/")) == 2
    registry.files["101", "model.onnx"] = NETWORK
    assert keep(site, registry) == Kept(1, ())


@pytest.mark.parametrize("digest", ["", "ab", "../" * 22, "Z" * 64])
def test_a_digest_that_is_none_names_no_object(
    site: Site, registry: MlflowServer, digest: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_version(site, "101", digest=digest)
    registry.files = {("101", "model.onnx"): NETWORK}
    assert keep(site, registry) == Kept(1, ("credit-risk 101",))
    assert "which is no SHA-256 in hex" in caplog.text
    assert len(site.bucket.keys("")) == 1


def test_the_daily_run_keeps_them_and_says_so_and_retention_leaves_them(
    site: Site, registry: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site.log().add(noon(5, 10), 3)
    add_version(site, "101")
    site.archive(noon(5, 11), registry=Registry(registry.url))
    assert "files of models kept; not kept: credit-risk 101" in caplog.text
    registry.files = {("101", "model.onnx"): NETWORK}
    caplog.clear()
    site.archive(noon(5, 12), registry=Registry(registry.url))
    assert "1 files of models kept" in caplog.text
    kept = site.bucket.keys("models/")
    # Half a year later the month is dropped, and the files are still there.
    site.archive(noon(12, 1), registry=Registry(registry.url))
    assert "2 months dropped" in caplog.text
    assert site.bucket.keys("models/") == kept
