"""`python -m backup store|fetch|verify|list|metrics`: what the containers of backup and restore run."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from backup.bucket import artifact_bucket, backup_bucket
from backup.create import create
from backup.errors import BackupError, ConfigurationError, VerificationError
from backup.repository import Repository
from backup.settings import Settings

logger = logging.getLogger("backup")

Command = Callable[[argparse.Namespace, Mapping[str, str]], None]


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Carry out one command and return its exit code: 0, or the one of the error that ended it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed, environment)
    except BackupError as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback would add nothing
        return error.exit_code
    return 0


def store(_: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Store the dump in the workspace and the artifact bucket as a backup."""
    settings = Settings.from_environment(environment)
    manifest = create(settings, artifact_bucket(settings), backup_bucket(settings), datetime.now(UTC))
    logger.info(
        "backup %s is complete: %d versions, %d runs, %d artifacts (%.1f MB)%s",
        manifest.id, manifest.rows("model_versions"), manifest.rows("runs"), len(manifest.artifacts),
        manifest.artifact_bytes / 1e6,
        f"; {len(manifest.problems)} files of versions were missing or differed already" if manifest.problems else "",
    )  # fmt: skip


def fetch(arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Check a backup, fetch its dump, and restore the artifacts."""
    from backup import restore  # noqa: PLC0415 - Alembic takes a second to import, which the other commands do not need

    settings = Settings.from_environment(environment)
    if not (wanted := arguments.source or environment.get("BACKUP_FROM", "")):
        raise ConfigurationError("BACKUP_FROM is not set: `latest`, or the id of a backup")
    restore.fetch(settings, wanted, artifact_bucket(settings), backup_bucket(settings))


def verify(arguments: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Check what was restored, and report."""
    from backup import report, verify  # noqa: PLC0415 - the same for SQLAlchemy

    settings = Settings.from_environment(environment)
    backend_store = environment.get("MLFLOW_BACKEND_STORE_URI", "")
    if not backend_store:
        raise ConfigurationError("MLFLOW_BACKEND_STORE_URI is not set")
    result = verify.verify(settings, artifact_bucket(settings), backend_store)
    sys.stdout.write(result.model_dump_json() + "\n" if arguments.json else report.text(result))
    if not result.ok:
        raise VerificationError("files of registered versions do not match their digests: see the report")


def list_backups(_: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """List the complete backups, the oldest first."""
    settings = Settings.from_environment(environment)
    repository = Repository(backup_bucket(settings), settings.prefix)
    for backup_id in repository.ids():
        manifest = repository.manifest(backup_id)
        sys.stdout.write(
            f"{backup_id}  {manifest.rows('runs')} runs  {manifest.rows('model_versions')} versions  "
            f"{len(manifest.artifacts)} artifacts  {(manifest.dump.size + manifest.artifact_bytes) / 1e6:.1f} MB\n"
        )


def metrics(_: argparse.Namespace, environment: Mapping[str, str]) -> None:
    """Serve metrics of the complete backups."""
    from backup.metrics import serve  # noqa: PLC0415 - the other commands serve nothing

    settings = Settings.from_environment(environment)
    serve(Repository(backup_bucket(settings), settings.prefix).ids)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="backup", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name: str, run: Command) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=run.__doc__)
        sub.set_defaults(run=run)
        return sub

    command("store", store)
    command("list", list_backups)
    command("metrics", metrics)
    command("fetch", fetch).add_argument("--from", dest="source", help="a backup's id, or latest; else BACKUP_FROM")
    command("verify", verify).add_argument("--json", action="store_true", help="report as one line of JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
