from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from decisions.__main__ import main
from decisions.database.id_ranges import first_id
from decisions.database.migrate import migrate
from decisions.database.partitions import Month, make_partitions, months_with_partitions, strays
from unit.decisions.migrated import NOW, Migrated

MONTHS = [Month(2026, 10), Month(2026, 11), Month(2026, 12), Month(2027, 1), Month(2027, 2)]
VERSION = UUID(int=1)


def decide(connection: psycopg.Connection, at: datetime, number: int = 1) -> UUID:
    """Insert a decision with its inputs as the shipper does, and return its id."""
    decision_id = UUID(int=first_id(at).int | 7 << 76 | 2 << 62 | number)
    connection.execute("INSERT INTO model_versions VALUES (%s, 'm', '1', '{}', '') ON CONFLICT DO NOTHING", [VERSION])
    with connection.cursor().copy("COPY decisions FROM STDIN") as copy:
        copy.write_row([decision_id, "r", 0, "score", "champion", "", VERSION, 0.1, 500, "approve", None, None, 9, "p",
                        VERSION, number, b"i", b"p", bytes(32)])  # fmt: skip
    with connection.cursor().copy("COPY decision_inputs FROM STDIN") as copy:
        copy.write_row([decision_id, "a-1", b"s", "{}"])
    return decision_id


@pytest.fixture
def owner(database: Migrated) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.url("owner"), autocommit=True) as connection:
        yield connection


def test_creates_everything_once(absent: Migrated, caplog: pytest.LogCaptureFixture) -> None:
    done = absent.migrate()
    assert "created the database decisions" in done
    assert any(line.startswith("migrated from an empty database to 000") for line in done)
    assert "made decisions_2026_10, decisions_2026_11" in done[-1]
    with psycopg.connect(absent.url("owner")) as connection:
        assert months_with_partitions(connection) == MONTHS
    revision = done[-2].split()[-1]
    assert absent.migrate() == [f"the schema is at {revision}", "all partitions are there"]
    told = "\n".join(done) + caplog.text
    assert not any(file.read_text().strip() in told for file in absent.folder.iterdir())


def test_two_at_once_do_it_once(absent: Migrated) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [job.result() for job in [pool.submit(absent.migrate) for _ in range(2)]]
    assert sum("created the database decisions" in done for done in both) == 1
    assert sum(any("migrated from" in line for line in done) for done in both) == 1


def test_changed_passwords_are_set(database: Migrated) -> None:
    (database.folder / "reader").write_text("another")
    database.migrate()
    with psycopg.connect(database.url("reader")) as connection:
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (0,)


def test_an_administrator_who_is_no_superuser_suffices(absent: Migrated) -> None:
    absent.server.sql("DROP ROLE IF EXISTS admin")
    for role in ("writer", "reader", "service", "owner"):
        absent.server.sql(f"DROP ROLE IF EXISTS decisions_{role}")
    absent.server.sql("CREATE ROLE admin LOGIN CREATEDB CREATEROLE PASSWORD 'secret'")
    settings = absent.settings.model_copy(
        update={"admin_url": f"postgresql://admin:secret@127.0.0.1:{absent.server.port}/mlflow"}
    )
    assert "created the role decisions_owner" in migrate(settings, NOW)


def test_the_sql_of_all_migrations_can_be_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--sql"]) == 0
    printed = capfd.readouterr().out
    assert "CREATE TABLE decisions" in printed
    assert "GRANT INSERT ON model_versions, decisions, decision_inputs TO decisions_writer" in printed


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "DECISIONS_DATABASE_URL"),
        ({"DECISIONS_DATABASE_URL": "postgresql://o@h/d", "DECISIONS_ADMIN_URL": "postgresql://h"}, "PASSWORDS_DIR"),
        (
            {"DECISIONS_DATABASE_URL": "postgresql://o@h", "DECISIONS_ADMIN_URL": "postgresql://h",
             "DECISIONS_ROLE_PASSWORDS_DIR": "/nowhere"},
            "must name the database",
        ),
        (
            {"DECISIONS_DATABASE_URL": "postgresql://o@h/d", "DECISIONS_ADMIN_URL": "postgresql://h",
             "DECISIONS_ROLE_PASSWORDS_DIR": "/nowhere"},
            "cannot read the password of decisions_owner",
        ),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["migrate"]) == 2
    assert words in caplog.text


def test_missing_roles_are_named(
    absent: Migrated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    absent.migrate()
    absent.sql("DROP OWNED BY decisions_reader")
    absent.server.sql("REVOKE ALL ON DATABASE decisions FROM decisions_reader")
    absent.server.sql("DROP ROLE decisions_reader")
    monkeypatch.setenv("DECISIONS_DATABASE_URL", absent.url("owner"))
    assert main(["migrate"]) == 1
    assert "no role decisions_reader" in caplog.text


def test_the_writer_inserts_and_does_nothing_else(database: Migrated) -> None:
    with psycopg.connect(database.url("writer"), autocommit=True) as writer:
        decision = decide(writer, NOW)
        for statement in (
            "SELECT id FROM decisions",
            "SELECT id FROM decisions_2026_11",
            "SELECT id FROM decision_inputs",
            "SELECT id FROM model_versions",
            "UPDATE decisions SET points = 1",
            "DELETE FROM decisions",
            "DELETE FROM decision_inputs",
            "TRUNCATE decisions",
            "TRUNCATE decisions_2026_11",
            "DROP TABLE decisions_2026_11",
            "ALTER TABLE decisions DETACH PARTITION decisions_2026_11",
            "ALTER TABLE decisions DISABLE TRIGGER ALL",
            "CREATE TABLE mine (id integer)",
            "CREATE TEMPORARY TABLE mine (id integer)",
            "CREATE SCHEMA mine",
            "SELECT * FROM outcomes",
            "SET ROLE decisions_owner",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                writer.execute(statement.encode())
        # What it needs to go on with a log after it was restarted.
        heads = writer.execute("SELECT sequence, hash FROM decisions_log_head(%s)", [VERSION]).fetchall()
        assert heads == [(1, bytes(32))]
        taken = writer.execute("SELECT decisions_recorded(%s)", [[decision, UUID(int=5)]]).fetchall()
        assert taken == [(decision,)]
        with pytest.raises(errors.UniqueViolation):
            decide(writer, NOW)


def test_the_reader_reads_and_does_nothing_else(database: Migrated, owner: psycopg.Connection) -> None:
    decide(owner, NOW)
    with psycopg.connect(database.url("reader"), autocommit=True) as reader:
        for table in ("decisions", "decision_inputs", "model_versions"):
            assert reader.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,)
        for statement in (
            "INSERT INTO model_versions VALUES (gen_random_uuid(), '', '', '{}', '')",
            "UPDATE decisions SET points = 1",
            "DELETE FROM decision_inputs",
            "DELETE FROM decisions",
            "TRUNCATE decision_inputs",
            "CREATE TABLE mine (id integer)",
            "SELECT decisions_log_head(gen_random_uuid())",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(statement.encode())


def test_the_service_deletes_inputs_and_never_decisions(database: Migrated, owner: psycopg.Connection) -> None:
    decision = decide(owner, NOW)
    with psycopg.connect(database.url("service"), autocommit=True) as service:
        assert service.execute("DELETE FROM decision_inputs WHERE applicant_id = 'a-1'").rowcount == 1
        assert service.execute("SELECT id FROM decisions").fetchall() == [(decision,)]
        for statement in (
            "DELETE FROM decisions",
            "UPDATE decisions SET points = 1",
            "UPDATE decision_inputs SET applicant_id = NULL",
            "INSERT INTO decision_inputs VALUES (gen_random_uuid(), NULL, '', '{}')",
            "INSERT INTO model_versions VALUES (gen_random_uuid(), '', '', '{}', '')",
            "TRUNCATE decision_inputs",
            "CREATE TABLE mine (id integer)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                service.execute(statement.encode())


def test_the_checker_exists_where_it_has_a_password_and_reads_two_views(database: Migrated) -> None:
    assert database.sql("SELECT 1 FROM pg_roles WHERE rolname = 'decisions_checker'") == []
    (database.folder / "checker").write_text("check")
    assert "created the role decisions_checker" in database.migrate()
    with psycopg.connect(database.url("checker"), autocommit=True) as checker:
        readable = checker.execute("""
            SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = 'public' AND relkind IN ('r', 'p', 'v', 'm', 'S') AND has_table_privilege(
                pg_class.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        """).fetchall()
        assert sorted(readable) == [("check_decisions",), ("check_outcomes",)]
        assert checker.execute("SELECT count(*) FROM check_decisions").fetchone() == (0,)
        for statement in (
            "CREATE TABLE t ()",
            "CREATE TEMP TABLE t ()",
            "SET ROLE decisions_service",
            "SELECT decisions_recorded('{}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                checker.execute(statement.encode())
    assert database.sql("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'decisions_checker'") == [(4,)]
    database.drop()
    database.server.sql("DROP ROLE decisions_checker")


def test_decisions_lie_in_their_months_partition(owner: psycopg.Connection) -> None:
    last_of_november = datetime(2026, 11, 30, 23, 59, 59, 999000, tzinfo=UTC)
    decide(owner, last_of_november, 1)
    decide(owner, last_of_november + timedelta(milliseconds=1), 2)
    rows = owner.execute("SELECT tableoid::regclass::text, sequence FROM decisions ORDER BY id").fetchall()
    assert rows == [("decisions_2026_11", 1), ("decisions_2026_12", 2)]


def test_a_clock_far_off_loses_nothing(owner: psycopg.Connection) -> None:
    early = decide(owner, datetime(1970, 1, 2, tzinfo=UTC), 1)
    late = decide(owner, datetime(2027, 4, 2, tzinfo=UTC), 2)
    found = strays(owner)
    assert (found.count, found.first, found.last) == (2, early, late)
    # The month comes: its decisions move to its partition, with their inputs, and are found as before.
    made = make_partitions(owner, datetime(2027, 1, 1, tzinfo=UTC))
    assert "decisions_2027_04" in made
    assert strays(owner).count == 1
    for table in ("decisions", "decision_inputs"):
        row = owner.execute(f"SELECT tableoid::regclass::text FROM {table} WHERE id = %s".encode(), [late]).fetchone()
        assert row == (f"{table}_2027_04",)
    with pytest.raises(errors.ForeignKeyViolation):
        owner.execute("UPDATE decisions SET model_version = gen_random_uuid() WHERE id = %s", [late])
    with pytest.raises(errors.UniqueViolation):
        decide(owner, datetime(2027, 4, 2, tzinfo=UTC), 2)


def test_months_go_over_the_year() -> None:
    assert Month(2026, 11).plus(3) == Month(2027, 2)
    assert Month(2026, 1).plus(-1) == Month(2025, 12)
    assert len(list(Month(2028, 2).days())) == 29
