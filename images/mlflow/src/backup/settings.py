"""Settings of one process, read once from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from backup.errors import ConfigurationError

Encryption = Literal["", "AES256", "aws:kms"]


@dataclass(frozen=True)
class Store:
    """An S3 store other than the one that the AWS_* variables name.

    Attributes:
        endpoint: The address, "" for AWS.
        access_key_id: "" for the default credential chain.
    """

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True)
class Retention:
    """A backup is kept while it is among the newest `count` or younger than `days`."""

    count: int
    days: int


@dataclass(frozen=True)
class Settings:
    """What a backup or restore works on.

    Attributes:
        store: Where backups are, if not in the artifacts' store.
        prefix: Key prefix of all backups in their bucket, without slashes at the ends.
        orphan_hours: Age in hours from which uploads that belong to no backup are removed.
        allow_empty: Store a database without runs and versions even though the previous backup has some.
    """

    artifact_bucket: str
    bucket: str
    prefix: str
    store: Store | None
    encryption: Encryption
    kms_key_id: str
    retention: Retention
    orphan_hours: float
    allow_empty: bool
    workspace: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the BACKUP_* variables.

        Raises:
            ConfigurationError: A variable is missing or has a value that is not allowed.
        """
        return cls(
            artifact_bucket=_required(environment, "BACKUP_ARTIFACT_BUCKET"),
            bucket=_required(environment, "BACKUP_BUCKET"),
            prefix=_required(environment, "BACKUP_PREFIX").strip("/"),
            store=_store(environment),
            encryption=_encryption(environment.get("BACKUP_SSE", "")),
            kms_key_id=environment.get("BACKUP_SSE_KMS_KEY_ID", ""),
            retention=Retention(
                count=_whole(environment, "BACKUP_RETENTION_COUNT", default=14, minimum=1),
                days=_whole(environment, "BACKUP_RETENTION_DAYS", default=30, minimum=0),
            ),
            orphan_hours=_whole(environment, "BACKUP_ORPHAN_HOURS", default=24, minimum=0),
            allow_empty=environment.get("BACKUP_ALLOW_EMPTY", "false") == "true",
            workspace=Path(environment.get("WORKSPACE", "/workspace")),
        )


def _required(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name, "").strip("/")):
        raise ConfigurationError(f"{name} is not set")
    return value


def _whole(environment: Mapping[str, str], name: str, *, default: int, minimum: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or int(text) < minimum:
        raise ConfigurationError(f"{name}={text}: allowed are whole numbers from {minimum}")
    return int(text)


def _encryption(text: str) -> Encryption:
    for allowed in get_args(Encryption):
        if text == allowed:
            return allowed  # type: ignore[no-any-return]  # one of the literals
    raise ConfigurationError(f"BACKUP_SSE={text}: allowed are AES256, aws:kms, and nothing")


def _store(environment: Mapping[str, str]) -> Store | None:
    if not (region := environment.get("BACKUP_S3_REGION", "")):
        return None
    return Store(
        endpoint=environment.get("BACKUP_S3_ENDPOINT_URL", ""),
        region=region,
        access_key_id=environment.get("BACKUP_S3_ACCESS_KEY_ID", ""),
        secret_access_key=environment.get("BACKUP_S3_SECRET_ACCESS_KEY", ""),
    )
