"""Verify a restored registry: migrate its schema if necessary, and check the digest of every registered file."""

import logging
import subprocess
import sys

from pydantic import BaseModel
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from backup.bucket import Bucket
from backup.errors import BackupError, ConfigurationError, ObjectMissingError
from backup.manifest import Manifest, Version
from backup.progress import for_all
from backup.repository import decisions_folder
from backup.restore import Fetched, manifest_file, migrations
from backup.settings import Settings
from backup.versions import key_of, problems_of

logger = logging.getLogger("backup")

# Names of the counts in the report, and the table of each.
COUNTED = {
    "experiments": "experiments",
    "runs": "runs",
    "run tags": "tags",
    "metrics": "metrics",
    "logged models": "logged_models",
    "registered models": "registered_models",
    "versions": "model_versions",
    "version tags": "model_version_tags",
    "aliases": "registered_model_aliases",
}
# Left by restore.sh once the transaction was committed.
DATABASE_RESTORED = "database.restored"
_VERSIONS = """
    SELECT v.name, v.version, coalesce(v.storage_location, v.source, '') AS location, substr(t.key, 8) AS file, t.value
    FROM public.model_versions AS v
    LEFT JOIN public.model_version_tags AS t
        ON t.name = v.name AND t.version = v.version AND t.key LIKE 'sha256.%'
        AND to_jsonb(t) ->> 'workspace' IS NOT DISTINCT FROM to_jsonb(v) ->> 'workspace'
    ORDER BY v.name, v.version
"""


class VersionResult(BaseModel):
    """One registered version: the files that its tags name, and what is wrong with them.

    Attributes:
        known_before: The backup's manifest reports the same problem: the restore did not cause it.
    """

    name: str
    version: int
    files: int
    problems: list[str]
    known_before: bool


class DecisionLogResult(BaseModel):
    """The restored database of the decision log: what matched the backup's rows and checksums."""

    taken_at: str
    tables: int
    rows: int


class Report(BaseModel):
    """How a restore ended; ages and durations in seconds, sizes in bytes."""

    ok: bool
    backup: str
    taken_at: str
    tables: int
    rows: int
    counts: dict[str, int]
    artifacts: Fetched
    versions: list[VersionResult]
    schema_upgraded: bool
    decision_log: DecisionLogResult | None


def verify(settings: Settings, bucket: Bucket, backend_store: str) -> Report:
    """Bring the restored schema up to date, then check every registered version's files.

    Raises:
        ConfigurationError: No restore was made in the workspace.
        BackupError: The database or the store cannot be reached.
    """
    try:
        manifest = Manifest.model_validate_json(manifest_file(settings.workspace).read_text())
        fetched = Fetched.model_validate_json(Fetched.file(settings.workspace).read_text())
    except OSError as error:
        raise ConfigurationError(f"no restore in {settings.workspace}: {error}") from error
    if not (settings.workspace / DATABASE_RESTORED).exists():
        raise ConfigurationError(f"the database was not restored: {settings.workspace} has no {DATABASE_RESTORED}")
    decisions = _decision_log(settings, manifest)
    upgraded = _upgrade(manifest, backend_store)
    try:
        engine = create_engine(backend_store)
        with engine.connect() as connection:
            registered = registered_versions(connection)
        engine.dispose()
    except SQLAlchemyError as error:
        raise BackupError(f"the database cannot be read: {error}") from error
    results = _check(registered, bucket, manifest)
    return Report(
        ok=all(not result.problems or result.known_before for result in results),
        backup=manifest.id,
        taken_at=manifest.database.taken_at.isoformat(),
        # Counted in the transaction that restored them, so they cannot differ from the backup's.
        tables=len(manifest.tables),
        rows=sum(table.rows for table in manifest.tables),
        counts={what: manifest.rows(table) for what, table in COUNTED.items()},
        artifacts=fetched,
        versions=results,
        schema_upgraded=upgraded,
        decision_log=decisions,
    )


def _decision_log(settings: Settings, manifest: Manifest) -> DecisionLogResult | None:
    if manifest.decisions is None:
        return None
    folder = decisions_folder(settings.workspace)
    if not (folder / DATABASE_RESTORED).exists():
        raise ConfigurationError(f"the decision log was not restored: {folder} has no {DATABASE_RESTORED}")
    tables = manifest.decisions.tables
    taken_at = manifest.decisions.database.taken_at.isoformat()
    return DecisionLogResult(taken_at=taken_at, tables=len(tables), rows=sum(table.rows for table in tables))


def registered_versions(connection: Connection) -> list[Version]:
    """Return all versions of the registry with the digests in their tags."""
    found: dict[tuple[str, int, str], dict[str, str]] = {}
    for name, version, location, file, digest in connection.execute(text(_VERSIONS)):
        digests = found.setdefault((name, version, location), {})
        if file is not None:
            digests[file] = digest
    return [
        Version(name=name, version=version, location=location, digests=digests)
        for (name, version, location), digests in found.items()
    ]


def _upgrade(manifest: Manifest, backend_store: str) -> bool:
    """Migrate a schema that is older than this MLflow's, as MLflow's own pod does when it starts."""
    head = migrations().get_current_head()
    if manifest.database.mlflow_revision == head:
        return False
    logger.info("upgrading the schema from %s to %s", manifest.database.mlflow_revision, head)
    if (code := subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", backend_store]).returncode) != 0:
        raise BackupError(f"`mlflow db upgrade` exited with {code}")
    return True


def _check(registered: list[Version], bucket: Bucket, manifest: Manifest) -> list[VersionResult]:
    keys = {key for version in registered for file in version.digests if (key := key_of(version, file, bucket.name))}

    def digest(key: str) -> tuple[str, str]:
        try:
            return key, bucket.read(key).sha256
        except ObjectMissingError:
            return key, ""

    sizes = {artifact.key: artifact.size for artifact in manifest.artifacts}
    read = for_all("checking registered versions", sorted(keys), digest, lambda key: sizes.get(key, 0))
    found = {key: sha256 for key, sha256 in read if sha256}
    known = {(problem.name, problem.version, problem.problem) for problem in manifest.problems}
    results = []
    for version in registered:
        problems = problems_of(version, found, bucket.name)
        results.append(
            VersionResult(
                name=version.name,
                version=version.version,
                files=len(version.digests),
                problems=problems,
                known_before=bool(problems)
                and all((version.name, version.version, problem) in known for problem in problems),
            )
        )
    return results
