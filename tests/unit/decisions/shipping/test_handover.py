"""A pod that ends while Postgres is away hands its segments over through a real S3, and another pod ships them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decisions.shipping import shipper
from decisions.shipping.handover import Handover, HandoverError, connect
from s3_store import s3_client, seaweedfs
from unit.decisions.decisions_database import DecisionsDatabase
from unit.decisions.log_writer import LogWriter
from unit.decisions.shipping.proof import assert_each_once
from unit.decisions.shipping.running import Running

BUCKET = "decisions"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as variables:
        s3_client(variables).create_bucket(Bucket=BUCKET)
        yield variables


@pytest.fixture
def bucket(store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store's client, with nothing in the bucket, and the process's variables as the chart sets them."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    client = s3_client(store)
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)
    return client


def keys(client: Any) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def place() -> Handover:
    return connect(BUCKET, "decisions", os.environ["AWS_ENDPOINT_URL"])


def end(running: Running, seconds: float = 30) -> bool:
    stop = threading.Event()
    stop.set()
    # Most of the time for the store, which may be slow on a busy machine.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipper, "_UPLOAD_SHARE", 1 - 1 / seconds)
        return running.shipper.run(stop, seconds)


def take_up(running: Running) -> None:
    for _ in range(20):
        running.shipper._looked_for_more = -float("inf")
        running.turn()


def handed_over(database: DecisionsDatabase, logs: Path) -> LogWriter:
    """Return a log of a pod that shipped the first part of it, and ended without Postgres."""
    running = Running(logs, database.url, handover=place())
    log = LogWriter(logs)
    log.write_groups([2])
    running.turn()
    log.write_groups([3])
    log.rotate()
    log.write_groups([1])
    log.close()
    database.server.stop()
    try:
        assert end(running)
    finally:
        database.server.start()
    return log


def test_segments_are_handed_over_and_shipped_by_another_pod(
    database: DecisionsDatabase, bucket: Any, tmp_path: Path
) -> None:
    log = handed_over(database, tmp_path / "a")
    prefix = f"decisions/handover/scoring-a/{log.log_id}/"
    names = ["complete.json", "segment-00000001.sqlite", "segment-00000002.sqlite", "shipped.json"]
    assert keys(bucket) == [prefix + name for name in names]
    assert not list((tmp_path / "a").rglob("*.sqlite"))
    assert database.count() == 2
    other = Running(tmp_path / "b", database.url, pod="scoring-b", handover=place())
    take_up(other)
    other.stop()
    assert_each_once(database, log)
    assert not keys(bucket)
    assert other.metric("taken_up_segments_total") == 2


def test_what_one_shipper_has_claimed_another_leaves_alone_and_gets_when_the_claim_is_left(
    database: DecisionsDatabase, bucket: Any, tmp_path: Path
) -> None:
    log = handed_over(database, tmp_path / "a")
    first, second = place(), place()
    assert first.take_up(tmp_path / "b") == 1
    assert second.take_up(tmp_path / "c") == 0
    assert not second.taking
    first.stop_taking()
    assert not list((tmp_path / "b").rglob("*.sqlite"))
    other = Running(tmp_path / "c", database.url, pod="scoring-c", handover=second)
    take_up(other)
    other.stop()
    assert_each_once(database, log)
    assert not keys(bucket)


def test_two_that_ship_the_same_segments_ship_them_once(
    database: DecisionsDatabase, bucket: Any, tmp_path: Path
) -> None:
    log = handed_over(database, tmp_path / "a")
    first = Running(tmp_path / "b", database.url, pod="scoring-b", handover=place())
    first.shipper._take_up()
    bucket.delete_object(Bucket=BUCKET, Key=f"decisions/handover/scoring-a/{log.log_id}/claim.json")
    second = Running(tmp_path / "c", database.url, pod="scoring-c", handover=place())
    take_up(second)
    take_up(first)
    assert_each_once(database, log)
    assert not keys(bucket)
    for running in (first, second):
        running.stop()


def test_a_store_that_cannot_be_reached_leaves_the_segments_on_the_volume(
    database: DecisionsDatabase, bucket: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = connect(BUCKET, "decisions", "http://127.0.0.1:9")
    running = Running(tmp_path, database.url, handover=nowhere)
    log = LogWriter(tmp_path)
    log.write_groups([1])
    log.close()
    database.server.stop()
    try:
        assert not end(running, 3)
    finally:
        database.server.start()
    assert log.file.exists()
    assert "segments could not be handed over and stay on the volume: s3://decisions/" in caplog.text
    with pytest.raises(HandoverError, match=r"127\.0\.0\.1:9"):
        nowhere.take_up(tmp_path)
