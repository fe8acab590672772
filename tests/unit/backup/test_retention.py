"""What retention keeps and removes, on an S3 server in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from moto.server import ThreadedMotoServer

from backup import retention
from backup.bucket import Bucket, backup_bucket
from backup.errors import BackupError, ConfigurationError
from backup.manifest import Artifact, Database, Dump, Manifest
from backup.repository import Repository
from backup.settings import Retention, Settings

NOW = datetime.now(UTC).replace(microsecond=0)
ENVIRONMENT = {"BACKUP_ARTIFACT_BUCKET": "mlflow", "BACKUP_BUCKET": "backups", "BACKUP_PREFIX": "stack"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def settings(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of two backups at least, three days, and nothing spared for being young."""
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
                        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="mlflow")
    return Settings.from_environment(
        {**ENVIRONMENT, "BACKUP_RETENTION_COUNT": "2", "BACKUP_RETENTION_DAYS": "3", "BACKUP_ORPHAN_HOURS": "0"}
    )


@pytest.fixture
def repository(settings: Settings) -> Repository:
    bucket = backup_bucket(settings)
    bucket.create_if_absent()
    for item in list(bucket.list()):
        bucket.delete(item.key)
    return Repository(bucket, settings.prefix)


def store(repository: Repository, days_ago: float, contents: Sequence[str], *, complete: bool = True) -> str:
    """Write a backup of some age with contents named by one letter each; return its id."""
    moment = NOW - timedelta(days=days_ago)
    backup_id = repository.new_id(moment)
    repository.bucket.write_text(repository.dump_key(backup_id), "dump")
    for letter in contents:
        repository.bucket.write_text(repository.content_key(letter * 64), letter)
    if complete:
        manifest = Manifest(
            id=backup_id,
            mlflow_version="3",
            database=Database(taken_at=moment, server_version="18", size_bytes=1, mlflow_revision="a", versions=()),
            dump=Dump(size=4, sha256="0" * 64),
            tables=(),
            artifacts=tuple(
                Artifact(key=letter, size=1, sha256=letter * 64, etag="", content_type="") for letter in contents
            ),
            problems=(),
        )
        repository.bucket.write_text(repository.manifest_key(backup_id), manifest.model_dump_json())
    return backup_id


def contents(repository: Repository) -> str:
    return "".join(sorted(sha256[0] for sha256 in repository.contents()))


def ids(*days_ago: float) -> list[str]:
    return [(NOW - timedelta(days=days)).strftime("%Y%m%dT%H%M%SZ") for days in days_ago]


@pytest.mark.parametrize(
    ("ages", "count", "days", "expired"),
    [
        ([5, 4, 3, 2], 2, 0, [5, 4]),
        ([5, 4, 3, 2], 2, 4.5, [5]),
        ([5, 4, 3, 2], 3, 30, []),
        ([5, 4], 5, 0, []),
        ([400], 1, 0, []),
        ([], 1, 0, []),
    ],
)
def test_a_backup_expires_when_it_is_neither_among_the_newest_nor_young(
    ages: list[float], count: int, days: float, expired: list[float]
) -> None:
    rule = Retention(count=count, days=days)  # type: ignore[arg-type]  # half days make the cases independent of noon
    assert retention.expired(ids(*ages), rule, NOW) == ids(*expired)


def test_contents_go_with_the_last_backup_that_names_them(repository: Repository, settings: Settings) -> None:
    oldest = store(repository, 9, "ab")
    kept = [store(repository, days, letters) for days, letters in ((2, "bc"), (1, "c"))]
    assert retention.apply(repository, settings, NOW + timedelta(hours=1)) == [oldest]
    assert repository.ids() == kept
    assert contents(repository) == "bc"
    assert {backup_id for backup_id, _ in repository.files()} == set(kept)


def test_what_an_interrupted_backup_left_is_removed_when_it_is_old_enough(
    repository: Repository, settings: Settings
) -> None:
    store(repository, 0.5, "d", complete=False)
    kept = store(repository, 1, "a")
    patient = Settings.from_environment(ENVIRONMENT)
    retention.apply(repository, patient, NOW + timedelta(hours=23))
    assert contents(repository) == "ad"
    assert len(list(repository.files())) == 3
    retention.apply(repository, patient, NOW + timedelta(hours=25))
    assert contents(repository) == "a"
    assert {backup_id for backup_id, _ in repository.files()} == {kept}


def test_the_last_backup_never_expires(repository: Repository, settings: Settings) -> None:
    kept = [store(repository, days, "a") for days in (900, 800)]
    assert retention.apply(repository, settings, NOW) == []
    assert repository.ids() == kept
    assert contents(repository) == "a"


def test_backups_of_the_same_second_get_ids_of_their_own(repository: Repository) -> None:
    first = store(repository, 1, "a", complete=False)
    second = store(repository, 1, "a")
    assert first < second
    assert repository.choose("latest") == second


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"BACKUP_SSE": "AES256"}, {"ServerSideEncryption": "AES256"}),
        (
            {"BACKUP_SSE": "aws:kms", "BACKUP_SSE_KMS_KEY_ID": "key-1"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-1"},
        ),
    ],
)
def test_everything_that_is_written_asks_for_the_encryption_of_the_settings(
    repository: Repository,
    tmp_path_factory: pytest.TempPathFactory,
    variables: dict[str, str],
    expected: dict[str, str],
) -> None:
    bucket = backup_bucket(Settings.from_environment({**ENVIRONMENT, **variables}))
    file = tmp_path_factory.mktemp("encryption") / "file"
    file.write_text("content")
    bucket.write("stack/file", file, content_type="text/plain")
    bucket.write_text("stack/text", "content")
    for key in ("stack/file", "stack/text"):
        head = bucket.client.head_object(Bucket="backups", Key=key)
        # S3 encrypts with AES256 what asks for nothing.
        assert head.get("ServerSideEncryption", "AES256") == expected.get("ServerSideEncryption", "AES256")
        assert expected.get("SSEKMSKeyId", "") in head.get("SSEKMSKeyId", "")
        assert bucket.read_text(key) == "content"


def test_backups_go_to_the_store_that_the_settings_name_and_not_to_the_artifacts(
    endpoint: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    there = {"BACKUP_S3_REGION": "eu-central-1", "BACKUP_S3_ACCESS_KEY_ID": "k", "BACKUP_S3_SECRET_ACCESS_KEY": "s"}
    own = backup_bucket(
        Settings.from_environment(
            {**ENVIRONMENT, **there, "BACKUP_BUCKET": "other", "BACKUP_S3_ENDPOINT_URL": endpoint}
        )
    )
    own.create_if_absent()
    own.write_text("a", "b")
    assert [item.key for item in own.list()] == ["a"]
    aws = backup_bucket(Settings.from_environment({**ENVIRONMENT, **there}))
    assert aws.client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"


def test_a_store_that_does_not_answer_is_an_error_with_the_objects_address(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket: Bucket = backup_bucket(settings)
    with pytest.raises(BackupError, match="s3://backups/a"):
        bucket.read_text("a")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"BACKUP_BUCKET": ""}, "BACKUP_BUCKET is not set"),
        ({"BACKUP_PREFIX": "/"}, "BACKUP_PREFIX is not set"),
        ({"BACKUP_RETENTION_COUNT": "0"}, "BACKUP_RETENTION_COUNT=0: allowed are whole numbers from 1"),
        ({"BACKUP_RETENTION_DAYS": "-1"}, "BACKUP_RETENTION_DAYS=-1"),
        ({"BACKUP_SSE": "aes"}, "BACKUP_SSE=aes: allowed are AES256, aws:kms"),
    ],
)
def test_settings_that_cannot_be_used_are_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Settings.from_environment({**ENVIRONMENT, **variables})
