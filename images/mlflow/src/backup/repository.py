"""The backups in their bucket.

`PREFIX/backups/ID/manifest.json` is written last, beside `database.dump` and, with a decision log,
`decisions.dump`; an artifact's content is
`PREFIX/objects/SHA256`, shared by all backups that have it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from backup.bucket import Bucket, StoredObject
from backup.errors import RefusedError
from backup.manifest import Manifest

LATEST = "latest"
MANIFEST = "manifest.json"
DUMP = "database.dump"
# Of the decision log, if there is one.
DECISIONS_DUMP = "decisions.dump"


def decisions_folder(workspace: Path) -> Path:
    """Return where in the workspace the decision log's dump is, on its way to the store and back."""
    return workspace / "decisions"


@dataclass(frozen=True)
class Repository:
    """All backups under one prefix of a bucket."""

    bucket: Bucket
    prefix: str

    def ids(self) -> list[str]:
        """Return the complete backups, the oldest first."""
        found = self.bucket.list(f"{self.prefix}/backups/")
        return sorted(item.key.split("/")[-2] for item in found if item.key.endswith(f"/{MANIFEST}"))

    def files(self) -> Iterator[tuple[str, StoredObject]]:
        """Yield the dumps and manifests of all backups, complete or not, with their backups' ids."""
        for item in self.bucket.list(f"{self.prefix}/backups/"):
            yield item.key.split("/")[-2], item

    def choose(self, wanted: str) -> str:
        """Return the id of a backup, `latest` for the newest.

        Raises:
            RefusedError: There is no such backup; the message lists those that exist.
        """
        ids = self.ids()
        if wanted == LATEST and ids:
            return ids[-1]
        if wanted in ids:
            return wanted
        there = ", ".join(ids) if ids else "none"
        raise RefusedError(f"no backup {wanted} in s3://{self.bucket.name}/{self.prefix}; complete backups: {there}")

    def manifest(self, backup_id: str) -> Manifest:
        """Read a backup's manifest.

        Raises:
            RefusedError: It cannot be understood.
        """
        try:
            return Manifest.model_validate_json(self.bucket.read_text(self.manifest_key(backup_id)))
        except ValidationError as error:
            raise RefusedError(f"the manifest of backup {backup_id} cannot be used: {error}") from error

    def new_id(self, taken_at: datetime) -> str:
        """Return an id for a backup of that moment: the first free second from it on."""
        second = int(taken_at.timestamp())
        taken = {backup_id for backup_id, _ in self.files()}
        while (candidate := time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))) in taken:
            second += 1
        return candidate

    def manifest_key(self, backup_id: str) -> str:
        """Return the key of a backup's manifest."""
        return f"{self.prefix}/backups/{backup_id}/{MANIFEST}"

    def dump_key(self, backup_id: str, dump: str = DUMP) -> str:
        """Return the key of a backup's dump."""
        return f"{self.prefix}/backups/{backup_id}/{dump}"

    def content_key(self, sha256: str) -> str:
        """Return the key of a content."""
        return f"{self.prefix}/objects/{sha256}"

    def contents(self) -> dict[str, StoredObject]:
        """Return the stored contents by SHA-256."""
        return {item.key.rpartition("/")[2]: item for item in self.bucket.list(f"{self.prefix}/objects/")}
