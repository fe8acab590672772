"""The decision log's database in backups: dumped, refused, and restored with what its roles may do."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.repository import DECISIONS_DUMP
from postgres import Postgres
from unit.backup.services import BACKUPS, PREFIX, Site
from unit.decisions.archive.site import MAY, VERSION, Log, insert_version, noon
from unit.decisions.migrated import Migrated, with_passwords

pytestmark = pytest.mark.slow


@pytest.fixture
def database(postgres: Postgres, site: Site, tmp_path: Path) -> Iterator[Migrated]:
    """The decision log's database with six decisions."""
    passwords = tmp_path / "passwords"
    passwords.mkdir()
    found = with_passwords(postgres, passwords)
    found.migrate(MAY)
    site.decisions = {"PGPASSWORD": (passwords / "owner").read_text().strip()}
    with psycopg.connect(found.url("writer"), autocommit=True) as writer:
        insert_version(writer)
        log = Log(writer, VERSION.id)
        log.add(noon(5, 10), 4)
        log.add(noon(6, 11), 2)
    yield found
    found.drop()


def everything(database: Migrated) -> list[Any]:
    return database.sql("SELECT * FROM decisions JOIN decision_inputs USING (id) ORDER BY id")


def manifest_of(site: Site, backup_id: str) -> Any:
    key = f"{PREFIX}/backups/{backup_id}/manifest.json"
    return json.loads(site.s3.get_object(Bucket=BACKUPS, Key=key)["Body"].read())


def test_a_lost_decision_log_comes_back_with_what_its_roles_may_do(
    site: Site, database: Migrated, capfd: pytest.CaptureFixture[str]
) -> None:
    before = everything(database)
    backup_id = site.back_up()
    site.postgres.lose()
    # As the Deployment does when it is restarted.
    database.migrate(MAY)
    assert everything(database) == []
    site.restore(backup_id)
    # psycopg compares JSON as it was parsed.
    assert everything(database) == before
    assert len(before) == 6
    assert "6 rows" not in capfd.readouterr().err
    with psycopg.connect(database.url("writer"), autocommit=True) as writer:
        assert writer.execute("SELECT sequence FROM decisions_log_head(%s)", [VERSION.id]).fetchone() == (6,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute("SELECT 1 FROM decisions")
    with psycopg.connect(database.url("service"), autocommit=True) as service:
        assert service.execute("SELECT count(*) FROM decisions").fetchone() == (6,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("DELETE FROM decisions")


def test_a_backup_without_a_decision_log_leaves_the_one_there_is(site: Site, database: Migrated) -> None:
    before, site.decisions = everything(database), {}
    backup_id = site.back_up()
    assert "decisions" not in manifest_of(site, backup_id)
    site.restore(backup_id)
    assert everything(database) == before


def test_a_decision_log_is_not_restored_where_there_is_none(site: Site, database: Migrated) -> None:
    site.back_up()
    site.decisions = {}
    assert site.run("fetch", "--from", "latest") == 0
    refused = site.script("restore-decisions.sh")
    assert refused.returncode == 1
    assert "switch the decision log on, then restore" in refused.stderr
    assert site.script("restore.sh").returncode == 0
    assert site.run("verify") == 2


def test_a_damaged_dump_of_the_decision_log_is_refused(
    site: Site, database: Migrated, caplog: pytest.LogCaptureFixture
) -> None:
    backup_id = site.back_up()
    site.s3.put_object(Bucket=BACKUPS, Key=f"{PREFIX}/backups/{backup_id}/{DECISIONS_DUMP}", Body=b"PGDMP")
    assert site.run("fetch", "--from", "latest") == 3
    assert f"{DECISIONS_DUMP} has 5 bytes" in caplog.text


def test_an_emptied_decision_log_is_not_stored_over_good_backups(
    site: Site, database: Migrated, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backup_id = site.back_up()
    assert sum(table["rows"] for table in manifest_of(site, backup_id)["decisions"]["tables"]) > 12
    database.sql("TRUNCATE decisions, decision_inputs")
    assert site.script("dump-decisions.sh").returncode == 0
    assert site.run("store") == 3
    assert f"the decision log's database is empty, but the backup {backup_id} has 6 decisions" in caplog.text
    site.decisions = {}
    assert site.script("dump-decisions.sh").returncode == 0
    assert site.run("store") == 3
    assert "the decision log's database is not there" in caplog.text
    assert site.run("store", BACKUP_ALLOW_EMPTY="true") == 0
