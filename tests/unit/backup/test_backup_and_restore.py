"""Backup and restore over a real Postgres, S3 store and MLflow server, by the Jobs' own programs."""

from __future__ import annotations

import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from sqlalchemy import create_engine

from backup.restore import migrations
from environments import debians_postgres
from postgres import Postgres
from registry_state import described, matching_files
from unit.backup.registry import publish, train
from unit.backup.services import ARTIFACTS, BACKUPS, PREFIX, Site

pytestmark = pytest.mark.slow


def test_a_lost_database_and_a_lost_bucket_come_back_whole(
    site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(site, "whole")
    before, files = described(site.client), site.contents(ARTIFACTS)
    backup_id = site.back_up()
    site.postgres.lose()
    site.empty_bucket()
    site.restore(backup_id)
    assert site.contents(ARTIFACTS) == files
    assert described(site.client) == before
    found = matching_files(site.client, tmp_path / "downloads")
    assert len(found) == 6
    assert all(found.values())
    report = capfd.readouterr().out
    assert f"Restored backup {backup_id}" in report
    assert "3 of 3 match their digests (6 files)" in report
    assert "6 restored" in report


def test_a_backup_of_the_embedded_clusters_postgres_is_restored_to_the_charts_newer_one(site: Site) -> None:
    """Each side with its own programs, as in the images."""
    new = site.postgres
    with older_postgres() as site.postgres, pytest.MonkeyPatch.context() as patch:
        for name, value in site.postgres.environment.items():
            patch.setenv(name, value)
        assert site.postgres.version < new.version
        client = MlflowClient(site.postgres.uri)
        client.create_registered_model("moved", tags={"owner": "risk"})
        client.create_model_version("moved", "mlflow-artifacts:/0/run/model", tags={"gate.verdict": "passed"})
        client.set_registered_model_alias("moved", "production", "1")
        client.log_metric(client.create_run("0").info.run_id, "auc", 1 / 3)
        before = described(client)
        backup_id = site.back_up()
    site.postgres = new
    site.restore(backup_id)
    assert described(site.client) == before


def test_a_backup_of_a_newer_postgres_is_refused_by_an_older_one(site: Site) -> None:
    site.back_up()
    new = site.postgres
    with older_postgres() as site.postgres:
        assert site.run("fetch", "--from", "latest") == 0
        refused = site.script("restore.sh")
        assert "unsupported version" in refused.stderr
        assert refused.returncode != 0
        assert site.postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == ["0"]
    site.postgres = new


def test_a_backup_of_an_older_mlflow_is_restored_and_its_schema_upgraded(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    head, previous = [revision.revision for revision in migrations().walk_revisions()][:2]
    new = site.postgres
    with older_postgres() as site.postgres, pytest.MonkeyPatch.context() as patch:
        for name, value in site.postgres.environment.items():
            patch.setenv(name, value)
        upgrade_to(previous, site.postgres.uri)
        site.postgres.sql("INSERT INTO registered_models (name, workspace) VALUES ('old', 'default')")
        backup_id = site.back_up()
    site.postgres = new
    site.restore(backup_id)
    assert site.postgres.sql("SELECT version_num FROM alembic_version") == [head]
    assert "upgraded to this MLflow's" in capfd.readouterr().out
    assert site.client.get_registered_model("old").name == "old"


def upgrade_to(revision: str, uri: str) -> None:
    """Create the tables of an earlier MLflow, as its migrations do."""
    engine = create_engine(uri)
    InitialBase.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", migrations().dir)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


@contextmanager
def older_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="postgres-") as base:
        Path(base).chmod(0o755)
        server = Postgres(Path(base) / "server", debians_postgres())
        server.start()
        try:
            yield server
        finally:
            server.stop()


def test_a_restore_can_be_repeated_and_leaves_unchanged_artifacts_alone(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(site, "repeated", versions=2)
    site.back_up()
    before = described(site.client)
    changed = site.keys(ARTIFACTS)[0]
    newer = train(site.client, "repeated")
    site.s3.put_object(Bucket=ARTIFACTS, Key=changed, Body=b"overwritten")
    site.restore()
    assert "1 restored" in capfd.readouterr().out
    assert described(site.client) == before
    # What was trained since is no longer registered; its files stay in the bucket.
    assert newer == "3"
    site.restore()
    assert site.run("verify", "--json") == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert report["ok"]
    assert report["artifacts"]["restored"] == 0
    assert report["artifacts"]["not_in_backup"] == 2
    assert report["counts"]["versions"] == 2
    assert [version["problems"] for version in report["versions"]] == [[], []]


def test_a_backup_replaces_tables_that_a_later_mlflow_added(site: Site) -> None:
    publish(site, "downgraded", versions=1)
    site.back_up()
    site.postgres.sql("CREATE TABLE added_later (run_uuid varchar(32) REFERENCES runs (run_uuid))")
    site.restore()
    assert site.postgres.sql("SELECT to_regclass('added_later') IS NULL") == ["t"]


def test_a_restore_needs_no_superuser_and_leaves_extensions_to_theirs(site: Site) -> None:
    """As in a managed database, where the login only owns its own database."""
    publish(site, "managed", versions=1)
    assert site.script("dump.sh").returncode == 0
    site.postgres.sql("CREATE ROLE tenant LOGIN PASSWORD 'secret'")
    site.postgres.sql("CREATE DATABASE tenant OWNER tenant")
    site.postgres.sql("CREATE EXTENSION pg_stat_statements", "tenant")
    site.options |= {"PGUSER": "tenant", "PGDATABASE": "tenant"}
    for name in ("restore.sh", "dump.sh", "restore.sh"):
        result = site.script(name)
        assert result.returncode == 0, result.stderr
    assert site.postgres.sql("SELECT name FROM registered_models", "tenant") == ["managed"]
    assert site.postgres.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", "tenant") == [
        "tenant"
    ]
    assert "pg_stat_statements" in site.postgres.sql("SELECT extname FROM pg_extension", "tenant")


@contextmanager
def untouched(site: Site) -> Iterator[None]:
    before, files = described(site.client), site.contents(ARTIFACTS)
    yield
    assert described(site.client) == before
    assert site.contents(ARTIFACTS) == files


@pytest.mark.parametrize("harm", ["dump damaged", "dump missing", "artifact damaged", "artifact missing"])
def test_a_backup_with_a_missing_or_damaged_file_is_refused_and_nothing_is_touched(
    site: Site, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish(site, f"refused-{harm.replace(' ', '-')}", versions=1)
    backup_id = site.back_up()
    (dump,) = [key for key in site.keys(BACKUPS) if key.endswith("database.dump")]
    key = dump if "dump" in harm else next(key for key in site.keys(BACKUPS) if "/objects/" in key)
    if harm.endswith("missing"):
        site.s3.delete_object(Bucket=BACKUPS, Key=key)
    else:
        body = site.s3.get_object(Bucket=BACKUPS, Key=key)["Body"].read()
        site.s3.put_object(Bucket=BACKUPS, Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]))
    site.s3.delete_object(Bucket=ARTIFACTS, Key=site.keys(ARTIFACTS)[0])
    with untouched(site):
        assert site.run("fetch", "--from", backup_id) == 3
    assert "nothing was restored" in caplog.text
    assert key in caplog.text


def test_a_database_restore_that_fails_or_differs_leaves_the_old_data(site: Site) -> None:
    publish(site, "rolled-back", versions=1)
    site.back_up()
    train(site.client, "rolled-back")
    assert site.run("fetch", "--from", "latest") == 0
    tables = site.workspace / "tables.tsv"
    expected = tables.read_text()
    with untouched(site):
        tables.write_text(expected.replace("public.model_versions\t1\t", "public.model_versions\t7\t"))
        refused = site.script("restore.sh")
    assert refused.returncode == 1
    assert "public.model_versions: 7 rows expected, 1 found" in refused.stderr
    assert "rolled back" in refused.stderr
    tables.write_text(expected)
    with untouched(site):
        dump = site.workspace / "database.dump"
        whole = dump.read_bytes()
        dump.write_bytes(whole[: len(whole) // 2])
        assert site.script("restore.sh").returncode != 0
    dump.write_bytes(whole)
    assert site.run("verify") == 2
    assert site.script("restore.sh").returncode == 0
    assert site.run("verify") == 0
    assert [version.version for version in site.client.search_model_versions("name='rolled-back'")] in ([1], ["1"])


def test_a_backup_taken_while_training_writes_is_consistent(site: Site, tmp_path: Path) -> None:
    site.client.create_registered_model("busy")
    train(site.client, "busy")
    done, registered = threading.Event(), []

    def keep_training() -> None:
        while not done.is_set():
            registered.append(train(site.client, "busy"))

    trainers = [threading.Thread(target=keep_training) for _ in range(2)]
    for trainer in trainers:
        trainer.start()
    try:
        ids = [site.back_up() for _ in range(4)]
    finally:
        done.set()
        for trainer in trainers:
            trainer.join()
    assert len(registered) > 2
    for backup_id in ids:
        manifest = json.loads(
            site.s3.get_object(Bucket=BACKUPS, Key=f"{PREFIX}/backups/{backup_id}/manifest.json")["Body"].read()
        )
        assert manifest["problems"] == []
    site.postgres.lose()
    site.empty_bucket()
    site.restore(ids[1])
    found = matching_files(site.client, tmp_path / "downloads")
    assert found
    assert all(found.values())


def test_the_second_backup_stores_only_what_is_new(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    publish(site, "incremental", versions=2)
    caplog.set_level(logging.INFO, "backup")
    first = site.back_up()
    # Equal files are one content: both versions have the same contract.
    assert len([key for key in site.keys(BACKUPS) if "/objects/" in key]) == 3
    train(site.client, "incremental", b"new")
    caplog.clear()
    second = site.back_up()
    assert "6 artifacts, 2 of them new" in caplog.text
    assert len([key for key in site.keys(BACKUPS) if "/objects/" in key]) == 4
    assert site.ids() == [first, second]


def test_a_content_that_was_lost_is_stored_again_by_the_next_backup(site: Site) -> None:
    publish(site, "healed", versions=1)
    site.back_up()
    lost = site.keys(BACKUPS, f"{PREFIX}/objects/")
    assert lost
    for key in lost:
        site.s3.delete_object(Bucket=BACKUPS, Key=key)
    site.back_up()
    assert site.keys(BACKUPS, f"{PREFIX}/objects/") == lost
    site.empty_bucket()
    site.restore()


def test_a_version_whose_file_was_lost_before_the_backup_is_reported_and_does_not_fail_the_restore(
    site: Site, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(site, "partial", versions=2)
    lost = next(key for key in site.keys(ARTIFACTS) if key.endswith("model.onnx"))
    site.s3.delete_object(Bucket=ARTIFACTS, Key=lost)
    site.back_up()
    assert f"{lost} is missing" in caplog.text
    site.restore()
    report = capfd.readouterr().out
    assert "1 of 2 match their digests" in report
    assert f"{lost} is missing (already so when the backup was taken)" in report


def test_a_restored_registry_whose_files_differ_from_their_tags_fails_the_verification(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(site, "differs", versions=1)
    site.back_up()
    site.restore()
    key = next(key for key in site.keys(ARTIFACTS) if key.endswith("contract.json"))
    site.s3.put_object(Bucket=ARTIFACTS, Key=key, Body=b"{}")
    assert site.run("verify") == 4
    assert "Restore NOT verified" in capfd.readouterr().out


def test_an_emptied_database_is_not_stored_over_good_backups(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    publish(site, "kept", versions=1)
    backup_id = site.back_up()
    site.postgres.sql(
        "DELETE FROM model_version_tags; DELETE FROM registered_model_aliases; DELETE FROM model_versions"
    )
    for table in ("latest_metrics", "metrics", "params", "tags", "runs"):
        site.postgres.sql(f"DELETE FROM {table}")
    assert site.script("dump.sh").returncode == 0
    assert site.run("store") == 3
    assert f"but the backup {backup_id} does" in caplog.text
    assert site.ids() == [backup_id]
    assert site.run("store", BACKUP_ALLOW_EMPTY="true") == 0
    site.restore(backup_id)
    assert site.client.get_model_version_by_alias("kept", "production").version in {1, "1"}


def test_a_database_without_mlflows_schema_is_not_dumped(site: Site) -> None:
    site.postgres.sql("ALTER TABLE alembic_version RENAME TO renamed")
    try:
        dumped = site.script("dump.sh")
    finally:
        site.postgres.sql("ALTER TABLE renamed RENAME TO alembic_version")
    assert dumped.returncode != 0
    assert "alembic_version" in dumped.stderr
    assert not (site.workspace / "database.dump").exists()
    assert site.run("store") == 2


def test_a_backup_of_a_newer_mlflow_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    (revision,) = site.postgres.sql("SELECT version_num FROM alembic_version")
    site.postgres.sql("UPDATE alembic_version SET version_num = 'fffffffffff1'")
    try:
        site.back_up()
    finally:
        site.postgres.sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    with untouched(site):
        assert site.run("fetch", "--from", "latest") == 3
    assert "upgrade MLflow first" in caplog.text


def test_backups_may_share_the_bucket_of_the_artifacts(site: Site) -> None:
    publish(site, "shared", versions=1)
    site.options["BACKUP_BUCKET"] = ARTIFACTS
    artifacts = set(site.keys(ARTIFACTS))
    for _ in range(2):
        assert site.script("dump.sh").returncode == 0
        assert site.run("store") == 0
    manifests = [key for key in site.keys(ARTIFACTS) if key.endswith("manifest.json")]
    assert len(manifests) == 2
    for key in artifacts:
        site.s3.delete_object(Bucket=ARTIFACTS, Key=key)
    site.restore()
    assert {key for key in site.keys(ARTIFACTS) if not key.startswith(PREFIX)} == artifacts


def test_an_unknown_backup_is_refused_with_the_list_of_those_that_exist(
    site: Site, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert site.run("fetch", "--from", "latest") == 3
    assert "complete backups: none" in caplog.text
    publish(site, "listed", versions=1)
    backup_id = site.back_up()
    with untouched(site):
        assert site.run("fetch", "--from", "20200101T000000Z") == 3
    assert f"complete backups: {backup_id}" in caplog.text
    capfd.readouterr()
    assert site.run("list") == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith(backup_id)
    assert "1 versions  2 artifacts" in line
