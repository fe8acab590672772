"""Store a dump and the artifacts as a backup.

The database is dumped before the bucket is listed. MLflow's clients write artifacts before they register them, so every
artifact that the dump names is in the bucket by then.
"""

import hashlib
import logging
import tempfile
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from backup import retention
from backup.bucket import Bucket, StoredObject
from backup.errors import BackupError, ConfigurationError, ObjectMissingError, RefusedError
from backup.manifest import (
    Artifact,
    Database,
    DecisionDatabase,
    DecisionLog,
    Dump,
    Manifest,
    Problem,
    Table,
    parse_tables,
)
from backup.progress import for_all
from backup.repository import DECISIONS_DUMP, DUMP, Repository, decisions_folder
from backup.settings import Settings
from backup.versions import problems_of

logger = logging.getLogger("backup")


D = TypeVar("D", Database, DecisionDatabase)


@dataclass(frozen=True)
class Dumped(Generic[D]):
    """What dump.sh left in a folder."""

    file: Path
    database: D
    tables: tuple[Table, ...]


def read_dump(folder: Path, described_by: type[D], what: str = "dump") -> Dumped[D]:
    """Read a dump's description.

    Raises:
        ConfigurationError: There is no complete dump in the folder.
    """
    try:
        database = described_by.model_validate_json((folder / "database.json").read_text())
        tables = parse_tables((folder / "tables.tsv").read_text())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(f"no complete {what} in {folder}: {error}") from error
    return Dumped(folder / DUMP, database, tables)


def read_decisions_dump(workspace: Path) -> Dumped[DecisionDatabase] | None:
    """Read the description of the decision log's dump; None if there is no decision log.

    Raises:
        ConfigurationError: The dump is not complete.
    """
    folder = decisions_folder(workspace)
    if not (folder / DUMP).exists():
        return None
    return read_dump(folder, DecisionDatabase, "dump of the decision log")


def create(settings: Settings, source: Bucket, target: Bucket, now: datetime) -> Manifest:
    """Store the workspace's dump and the artifact bucket as a new backup, then apply the retention.

    Raises:
        RefusedError: The database is empty although the previous backup is not.
        BackupError: The store failed; what was written so far is taken up by the next backup or removed later.
    """
    target.create_if_absent()
    repository = Repository(target, settings.prefix)
    dumped, decisions = read_dump(settings.workspace, Database), read_decisions_dump(settings.workspace)
    previous = _previous(repository)
    if not settings.allow_empty:
        _refuse_emptied(dumped, previous)
        _refuse_emptied_decisions(decisions, previous)
    backup_id = repository.new_id(dumped.database.taken_at)
    logger.info("backup %s goes to s3://%s/%s", backup_id, target.name, settings.prefix)
    dump = _store_dump(repository, repository.dump_key(backup_id), dumped.file)
    decision_log = decisions and DecisionLog(
        database=decisions.database,
        dump=_store_dump(repository, repository.dump_key(backup_id, DECISIONS_DUMP), decisions.file),
        tables=decisions.tables,
    )
    artifacts = _Artifacts(settings, source, repository, previous).store()
    found = {artifact.key: artifact.sha256 for artifact in artifacts}
    manifest = Manifest(
        id=backup_id,
        mlflow_version=package_version("mlflow"),
        database=dumped.database,
        dump=dump,
        tables=dumped.tables,
        artifacts=artifacts,
        problems=tuple(
            Problem(name=version.name, version=version.version, problem=problem)
            for version in dumped.database.versions
            for problem in problems_of(version, found, source.name)
        ),
        decisions=decision_log,
    )
    for problem in manifest.problems:
        logger.warning("version %d of %s: %s", problem.version, problem.name, problem.problem)
    # Without what it lacks: an earlier version can read the backup of a stack without a decision log.
    target.write_text(repository.manifest_key(backup_id), manifest.model_dump_json(indent=1, exclude_none=True))
    _check_contents(repository, manifest)
    retention.apply(repository, settings, now)
    return manifest


def _previous(repository: Repository) -> Manifest | None:
    ids = repository.ids()
    return repository.manifest(ids[-1]) if ids else None


def _refuse_emptied(dumped: Dumped[Database], previous: Manifest | None) -> None:
    """A database that was lost and recreated must not push the backups out that it has to be restored from."""
    rows = {table.name: table.rows for table in dumped.tables}
    empty = not rows.get("public.runs") and not rows.get("public.model_versions")
    if empty and previous is not None and not previous.empty:
        raise RefusedError(
            f"the database holds no runs and no registered versions, but the backup {previous.id} does: restore it, or "
            "set BACKUP_ALLOW_EMPTY=true (the chart's value allowEmpty) if the data was removed on purpose"
        )


def _refuse_emptied_decisions(dumped: Dumped[DecisionDatabase] | None, previous: Manifest | None) -> None:
    before = sum(_decisions_of(previous.decisions.tables).values()) if previous and previous.decisions else 0
    if before and not (dumped and any(_decisions_of(dumped.tables).values())):
        there = "is empty" if dumped else "is not there"
        raise RefusedError(
            f"the decision log's database {there}, but the backup {previous and previous.id} has {before} decisions: "
            "restore it, or set BACKUP_ALLOW_EMPTY=true (the chart's value allowEmpty) if they were removed on purpose"
        )


def _decisions_of(tables: tuple[Table, ...]) -> dict[str, int]:
    """Return how many decisions each month has."""
    return {table.name: table.rows for table in tables if table.name.startswith("public.decisions_")}


def _store_dump(repository: Repository, key: str, file: Path) -> Dump:
    """Write a dump and read it back: it is the one object that nothing else can replace."""
    repository.bucket.write(key, file)
    stored = repository.bucket.read(key)
    with file.open("rb") as stream:
        written = hashlib.file_digest(stream, "sha256").hexdigest()
    if stored.sha256 != written:
        raise BackupError(f"{key} has SHA-256 {stored.sha256}, {written} was written")
    return Dump(size=stored.size, sha256=stored.sha256)


class _Artifacts:
    """Copies to the backup what it does not have yet of the artifact bucket."""

    def __init__(self, settings: Settings, source: Bucket, repository: Repository, previous: Manifest | None) -> None:
        self._source, self._repository = source, repository
        self._workspace = settings.workspace
        # Backups may be in the artifact bucket itself.
        shared = settings.store is None and settings.bucket == settings.artifact_bucket
        self._skipped = f"{settings.prefix}/" if shared else None
        self._known = {artifact.key: artifact for artifact in previous.artifacts} if previous else {}
        self._stored = {sha256: item.size for sha256, item in repository.contents().items()}

    def store(self) -> tuple[Artifact, ...]:
        """Return all artifacts in the order of their keys; their contents are in the backup."""
        objects = [item for item in self._source.list() if not self._skipped or not item.key.startswith(self._skipped)]
        unchanged = [known for item in objects if (known := self._unchanged(item))]
        keys = {artifact.key for artifact in unchanged}
        changed = [item for item in objects if item.key not in keys]
        logger.info("%d artifacts, %d of them new since the previous backup", len(objects), len(changed))
        copied = [found for found in for_all("artifacts", changed, self._copy, lambda item: item.size) if found]
        return tuple(sorted(unchanged + copied, key=lambda artifact: artifact.key))

    def _unchanged(self, item: StoredObject) -> Artifact | None:
        """Return the previous backup's entry if neither object nor stored content changed since."""
        known = self._known.get(item.key)
        same = known and (known.size, known.etag) == (item.size, item.etag)
        return known if known and same and self._stored.get(known.sha256) == known.size else None

    def _copy(self, item: StoredObject) -> Artifact | None:
        with tempfile.NamedTemporaryFile(dir=self._workspace) as scratch:
            file = Path(scratch.name)
            try:
                content = self._source.read(item.key, file)
            except ObjectMissingError:
                logger.info("%s was deleted meanwhile", item.key)
                return None
            if self._stored.get(content.sha256) != content.size:
                self._repository.bucket.write(self._repository.content_key(content.sha256), file)
                self._stored[content.sha256] = content.size
        return Artifact(
            key=item.key,
            size=content.size,
            sha256=content.sha256,
            etag=item.etag,
            content_type=content.content_type,
        )


def _check_contents(repository: Repository, manifest: Manifest) -> None:
    """Check that all contents are there now that the manifest protects them.

    Raises:
        BackupError: Another run's retention removed some before; the backup is removed, and another attempt will do.
    """
    stored = {sha256: item.size for sha256, item in repository.contents().items()}
    missing = [artifact.key for artifact in manifest.artifacts if stored.get(artifact.sha256) != artifact.size]
    if missing:
        repository.bucket.delete(repository.manifest_key(manifest.id))
        raise BackupError(f"the contents of {len(missing)} artifacts, such as {missing[0]}, are not in the store")
