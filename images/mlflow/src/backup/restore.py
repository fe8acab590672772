"""Bring a backup's files to where they are restored: the dump to the workspace, the artifacts to their bucket.

Everything is read and compared with the manifest's digests before the first object is written. Artifacts come before
the database, so that the restored registry never names a file that is not there.
"""

import logging
import tempfile
from importlib.util import find_spec
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from pydantic import BaseModel

from backup.bucket import Bucket, Content
from backup.errors import BackupError, ObjectMissingError, RefusedError
from backup.manifest import Artifact, Manifest, format_tables
from backup.progress import for_all
from backup.repository import DECISIONS_DUMP, DUMP, Repository, decisions_folder
from backup.settings import Settings

logger = logging.getLogger("backup")

_SHOWN = 20


class Fetched(BaseModel):
    """What `fetch` did, for the report: numbers of artifacts, and the size of the restored ones in bytes."""

    backup: str
    restored: int
    restored_bytes: int
    unchanged: int
    not_in_backup: int

    @staticmethod
    def file(workspace: Path) -> Path:
        """Return where it is kept between the containers of a restore."""
        return workspace / "fetched.json"


def manifest_file(workspace: Path) -> Path:
    """Return where the chosen backup's manifest is kept between the containers of a restore."""
    return workspace / "manifest.json"


def fetch(settings: Settings, wanted: str, target: Bucket, source: Bucket) -> Fetched:
    """Check a backup, put its dump into the workspace, and restore missing and different artifacts.

    Args:
        settings: Where the files are, and the workspace.
        wanted: A backup's id, or `latest`.
        target: Where the artifacts go.
        source: Where the backups are.

    Raises:
        RefusedError: There is no such backup, or a file of it is missing or damaged: nothing was changed.
        BackupError: A store failed; the restore can be repeated.
    """
    repository = Repository(source, settings.prefix)
    manifest = repository.manifest(repository.choose(wanted))
    logger.info(
        "backup %s: database of %s, %d artifacts (%.1f MB), MLflow %s",
        manifest.id, manifest.database.taken_at.isoformat(), len(manifest.artifacts),
        manifest.artifact_bytes / 1e6, manifest.mlflow_version,
    )  # fmt: skip
    check_schema(manifest)
    _check_files(repository, manifest, settings.workspace)
    (settings.workspace / "tables.tsv").write_text(format_tables(manifest.tables))
    if manifest.decisions:
        (decisions_folder(settings.workspace) / "tables.tsv").write_text(format_tables(manifest.decisions.tables))
    manifest_file(settings.workspace).write_text(manifest.model_dump_json())
    target.create_if_absent()
    result = _restore_artifacts(repository, manifest, target, settings)
    Fetched.file(settings.workspace).write_text(result.model_dump_json())
    return result


def check_schema(manifest: Manifest) -> None:
    """Check that this image's MLflow knows the database's schema.

    Raises:
        RefusedError: The backup comes from a newer MLflow.
    """
    scripts = migrations()
    try:
        scripts.get_revision(manifest.database.mlflow_revision)
    except CommandError as error:
        raise RefusedError(
            f"backup {manifest.id} was taken with MLflow {manifest.mlflow_version}, whose database schema "
            f"({manifest.database.mlflow_revision}) this MLflow does not know: upgrade MLflow first"
        ) from error


def migrations() -> ScriptDirectory:
    """Return the schema revisions of the installed MLflow."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise BackupError("MLflow is not installed")
    return ScriptDirectory(str(Path(spec.origin).parent / "store" / "db_migrations"))


def _check_files(repository: Repository, manifest: Manifest, workspace: Path) -> None:
    expected = {artifact.sha256: artifact for artifact in manifest.artifacts}
    wrong = _compared(
        repository.dump_key(manifest.id),
        repository.bucket,
        (manifest.dump.size, manifest.dump.sha256),
        workspace / DUMP,
    )
    wrong += _compared_decisions(repository, manifest, decisions_folder(workspace))

    def check(artifact: Artifact) -> list[str]:
        key = repository.content_key(artifact.sha256)
        found = _compared(key, repository.bucket, (artifact.size, artifact.sha256))
        return [f"{artifact.key}: {problem}" for problem in found]

    for problems in for_all("checking the backup", expected.values(), check, lambda artifact: artifact.size):
        wrong += problems
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        listed = "".join(f"\n  {problem}" for problem in sorted(wrong)[:_SHOWN])
        raise RefusedError(f"backup {manifest.id} is incomplete or damaged, nothing was restored:{listed}{more}")


def _compared_decisions(repository: Repository, manifest: Manifest, folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / DUMP).unlink(missing_ok=True)
    if manifest.decisions is None:
        return []
    dump = manifest.decisions.dump
    key = repository.dump_key(manifest.id, DECISIONS_DUMP)
    return _compared(key, repository.bucket, (dump.size, dump.sha256), folder / DUMP)


def _compared(key: str, bucket: Bucket, expected: tuple[int, str], target: Path | None = None) -> list[str]:
    try:
        content = bucket.read(key, target)
    except ObjectMissingError as error:
        return [str(error)]
    if (content.size, content.sha256) != expected:
        return [f"{key} has {content.size} bytes and SHA-256 {content.sha256}, the manifest says {expected[0]} and "
                f"{expected[1]}"]  # fmt: skip
    return []


def _restore_artifacts(repository: Repository, manifest: Manifest, target: Bucket, settings: Settings) -> Fetched:
    live = {item.key: item for item in target.list()}

    def restore(artifact: Artifact) -> int:
        """Return the restored bytes, -1 if the artifact was there unchanged."""
        item = live.get(artifact.key)
        if item and item.size == artifact.size and _digest(target, artifact.key) == artifact.sha256:
            return -1
        with tempfile.NamedTemporaryFile(dir=settings.workspace) as scratch:
            content = repository.bucket.read(repository.content_key(artifact.sha256), Path(scratch.name))
            _require_same(content, artifact)
            target.write(artifact.key, Path(scratch.name), content_type=artifact.content_type)
        return artifact.size

    done = list(for_all("restoring artifacts", manifest.artifacts, restore, lambda artifact: artifact.size))
    written = [size for size in done if size >= 0]
    backed_up = {artifact.key for artifact in manifest.artifacts}
    shared = settings.store is None and settings.bucket == settings.artifact_bucket
    others = {key for key in live if not (shared and key.startswith(f"{settings.prefix}/"))} - backed_up
    return Fetched(
        backup=manifest.id,
        restored=len(written),
        restored_bytes=sum(written),
        unchanged=len(done) - len(written),
        not_in_backup=len(others),
    )


def _digest(bucket: Bucket, key: str) -> str:
    try:
        return bucket.read(key).sha256
    except ObjectMissingError:
        return ""


def _require_same(content: Content, artifact: Artifact) -> None:
    if content.sha256 != artifact.sha256:
        raise BackupError(f"the content of {artifact.key} changed in the backup while it was restored")
