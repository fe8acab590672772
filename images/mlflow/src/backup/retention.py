"""Which backups are kept, and what in their bucket belongs to none of them."""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from backup.bucket import StoredObject
from backup.manifest import Manifest
from backup.repository import Repository
from backup.settings import Retention, Settings

logger = logging.getLogger("backup")


def expired(ids: Sequence[str], retention: Retention, now: datetime) -> list[str]:
    """Return the backups that are neither among the newest `count` nor younger than `days`."""
    oldest_kept = now - timedelta(days=retention.days)
    return [backup_id for backup_id in sorted(ids)[: -retention.count] if taken_at(backup_id) < oldest_kept]


def taken_at(backup_id: str) -> datetime:
    """Return the time that a backup's id names."""
    return datetime.strptime(backup_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def unreferenced(
    contents: dict[str, StoredObject], manifests: Iterable[Manifest], before: datetime
) -> list[StoredObject]:
    """Return the contents written before a moment that no manifest names."""
    named = {artifact.sha256 for manifest in manifests for artifact in manifest.artifacts}
    return [item for sha256, item in contents.items() if sha256 not in named and item.modified < before]


def apply(repository: Repository, settings: Settings, now: datetime) -> list[str]:
    """Remove expired backups and what only they needed; return their ids.

    A manifest goes before its dump, and contents go last: what an interruption leaves is found again by the next run.
    Contents that are younger than `orphan_hours` stay: they may belong to a backup that is being written.
    """
    gone = expired(repository.ids(), settings.retention, now)
    for backup_id in gone:
        logger.info("removing the backup %s", backup_id)
        repository.bucket.delete(repository.manifest_key(backup_id))
    before = now - timedelta(hours=settings.orphan_hours)
    kept = set(repository.ids())
    for backup_id, item in list(repository.files()):
        if backup_id not in kept and (backup_id in gone or item.modified < before):
            repository.bucket.delete(item.key)
    orphans = unreferenced(repository.contents(), map(repository.manifest, kept), before)
    for item in orphans:
        repository.bucket.delete(item.key)
    if orphans:
        logger.info("removed %d contents that no backup names any more", len(orphans))
    return gone
