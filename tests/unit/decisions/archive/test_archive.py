from __future__ import annotations

import json
import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import psycopg
import pytest

from decisions.__main__ import main
from decisions.archive import files
from decisions.archive.bucket import Bucket, TakenError
from decisions.archive.files import decisions_key, inputs_key
from decisions.archive.rows import decisions_of_day
from decisions.archive.seals import load_seals
from decisions.database.partitions import Month, months_with_partitions
from decisions.errors import DecisionsError, DifferenceError
from decisions.records.merkle import MerkleTree
from unit.decisions.archive.site import Site, noon

DAY = date(2026, 5, 10)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def filled(site: Site, rows: int = 5) -> None:
    """Write decisions of two logs on two days."""
    log = site.log()
    log.add(noon(5, 10), rows)
    log.add(noon(5, 11), 2)
    site.log(2).add(noon(5, 10), 3, applicant="a-2")


def test_finished_days_are_sealed_and_exported(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    filled(site)
    site.archive(noon(5, 11))
    assert site.bucket.keys("") == [inputs_key(DAY), decisions_key(DAY), "seals/2026-05-10.json"]
    seal = load_seals(site.bucket)[0].seal
    assert (seal.count, seal.days, seal.previous) == (8, {"2026-05-10": 8}, "0" * 64)
    assert [(log.first, log.last) for log in seal.logs] == [(1, 5), (1, 3)]
    assert f"root {seal.root}" in caplog.text
    # The next day's seal holds the next day, and names this one.
    site.archive(noon(5, 12))
    first, second = load_seals(site.bucket)
    assert second.seal.previous == first.sha256
    assert (second.seal.count, second.seal.logs[0].first, second.seal.logs[0].last) == (2, 6, 7)


def test_the_root_is_of_the_hashes_by_log_and_sequence(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 13))
    tree = MerkleTree()
    for (hash_,) in site.owner.execute("SELECT hash FROM decisions ORDER BY log_id, sequence").fetchall():
        tree.add(hash_)
    assert load_seals(site.bucket)[0].seal.root == tree.root().hex()


def test_a_second_run_changes_nothing(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 12))
    before = {key: site.bucket.client.head_object(Bucket=site.bucket.name, Key=f"stack/{key}")["LastModified"]
              for key in site.bucket.keys("")}  # fmt: skip
    site.archive(noon(5, 12))
    after = {key: site.bucket.client.head_object(Bucket=site.bucket.name, Key=f"stack/{key}")["LastModified"]
             for key in site.bucket.keys("")}  # fmt: skip
    assert after == before


def test_late_decisions_are_in_the_next_seal_and_in_the_archive_of_their_day(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 11))
    site.log(3).add(noon(5, 10), 2)
    site.archive(noon(5, 12))
    assert load_seals(site.bucket)[1].seal.days == {"2026-05-10": 2, "2026-05-11": 2}
    assert site.table(decisions_key(DAY)).num_rows == 10
    assert site.differences() == []


def test_days_without_decisions_and_missed_runs_leave_no_gap(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 11))
    site.archive(noon(5, 15))
    assert [stored.seal.date.day for stored in load_seals(site.bucket)] == [10, 11, 12, 13, 14]
    assert [stored.seal.count for stored in load_seals(site.bucket)] == [8, 2, 0, 0, 0]
    assert site.differences() == []


def test_duckdb_reads_the_archive(site: Site, tmp_path: Any) -> None:
    filled(site)
    site.archive(noon(5, 12))
    for kind in ("decisions", "decision_inputs"):
        for day in ("2026-05-10", "2026-05-11"):
            folder = tmp_path / kind / f"day={day}"
            folder.mkdir(parents=True)
            site.bucket.download(f"archive/{kind}/day={day}/part-0.parquet", folder / "part-0.parquet")
    found = duckdb.execute(
        f"""SELECT d.day, count(*), min(d.time), count(i.inputs)
        FROM read_parquet('{tmp_path}/decisions/*/*.parquet', hive_partitioning = true) d
        LEFT JOIN read_parquet('{tmp_path}/decision_inputs/*/*.parquet') i USING (id)
        WHERE d.decision = 'approve' AND probability BETWEEN 1e-10 AND 1 GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert [row[:2] for row in found] == [(date(2026, 5, 10), 8), (date(2026, 5, 11), 2)]
    assert [row[3] for row in found] == [8, 2]
    assert found[0][2].astimezone(UTC) == noon(5, 10)
    compression = duckdb.execute(
        f"SELECT DISTINCT compression FROM parquet_metadata('{tmp_path}/decisions/*/*.parquet')"
    )
    assert compression.fetchall() == [("ZSTD",)]


def test_what_was_exported_is_what_the_database_has(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # In several batches and row groups.
    monkeypatch.setattr(files, "_BATCH_ROWS", 2)
    monkeypatch.setattr(files, "CHUNK_ROWS", 4)
    filled(site, rows=11)
    site.forget("a-2")
    site.archive(noon(5, 12))
    with site.owner.transaction():
        stored = list(decisions_of_day(site.owner, DAY))
    assert len(stored) == 14
    assert sum(decision.inputs is None for decision in stored) == 3
    assert list(files.read_day(site.bucket, DAY)) == stored


def test_probabilities_are_the_same_numbers_everywhere(site: Site) -> None:
    site.log().add(noon(5, 10), 400)
    assert site.differences() == []
    site.archive(noon(5, 11))
    site.archive(JUNE, months=0)
    found = site.verify()
    assert (found.findings.records, found.findings.differences) == (400, [])


def test_a_run_that_fails_in_between_leaves_no_part_of_a_day(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(site)
    upload = Bucket.upload

    def fails(self: Bucket, key: str, *rest: Any) -> None:
        if key.startswith("archive/decisions/"):
            raise DecisionsError("the store is gone")
        upload(self, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "upload", fails)
        with pytest.raises(DecisionsError, match="the store is gone"):
            site.archive(noon(5, 11))
    assert files.archived_days(site.bucket) == []
    site.archive(noon(5, 11))
    assert files.archived_days(site.bucket) == [DAY]
    assert site.differences() == []


def test_an_object_that_is_read_back_differently_does_not_count(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(site)
    monkeypatch.setattr(Bucket, "download", lambda self, key, file: file.write_bytes(b"") and "")
    with pytest.raises(DecisionsError, match="what was read back is not what was written"):
        site.archive(noon(5, 11))


def test_a_seal_is_never_overwritten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(site)
    site.archive(noon(5, 11))
    with pytest.raises(TakenError, match="must not be overwritten"):
        site.bucket.write_new("seals/2026-05-10.json", b"{}")
    # Nor by a writer that did not see it.
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "metadata", lambda self, key: None)
        with pytest.raises(TakenError, match="must not be overwritten"):
            site.bucket.write_new("seals/2026-05-10.json", b"{}")
    assert load_seals(site.bucket)[0].seal.count == 8


def test_what_is_no_seal_is_told(site: Site) -> None:
    site.bucket.write_new("seals/2026-05-10.json", b"[]")
    with pytest.raises(DifferenceError, match=r"seals/2026-05-10\.json is no seal"):
        site.archive(noon(5, 11))


def test_a_month_is_dropped_once_it_is_kept_long_enough(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 12))
    site.archive(datetime(2026, 6, 30, 23, tzinfo=UTC), months=1)
    assert Month(2026, 5) in months_with_partitions(site.owner)
    site.archive(datetime(2026, 7, 1, tzinfo=UTC), months=2)
    assert Month(2026, 5) in months_with_partitions(site.owner)
    site.archive(datetime(2026, 7, 1, tzinfo=UTC), months=1)
    assert Month(2026, 6) in months_with_partitions(site.owner)
    assert Month(2026, 5) not in months_with_partitions(site.owner)
    assert site.owner.execute("SELECT count(*) FROM decisions").fetchone() == (0,)
    found = site.verify()
    assert (found.findings.records, found.findings.differences) == (10, [])


def test_a_month_whose_archive_was_damaged_is_exported_again_before_it_is_dropped(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 12))
    site.edit(decisions_key(DAY), lambda rows: [{**row, "points": 1} for row in rows])
    site.bucket.client.put_object(
        Bucket=site.bucket.name, Key="stack/archive/decisions/day=2026-05-11/part-0.parquet", Body=b"PAR1"
    )
    site.archive(JUNE, months=0)
    assert Month(2026, 5) not in months_with_partitions(site.owner)
    assert site.differences() == []


def test_an_archive_that_has_more_than_the_database_is_not_overwritten(site: Site) -> None:
    filled(site)
    site.archive(JUNE, months=0)
    # Last month's partition is made again, and is empty.
    with pytest.raises(DecisionsError, match="the archive has 8 decisions of 2026-05-10, and the database only 0"):
        site.archive(JUNE, months=0)
    assert site.table(decisions_key(DAY)).num_rows == 8


def test_a_month_that_the_store_does_not_take_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(site)
    site.archive(noon(5, 12))
    site.edit(decisions_key(DAY), lambda rows: rows[:-1])
    monkeypatch.setattr(Bucket, "upload", lambda *_: None)
    with pytest.raises(DecisionsError):
        site.archive(JUNE, months=0)
    assert Month(2026, 5) in months_with_partitions(site.owner)


def test_decisions_of_clocks_that_were_off_are_kept_sealed_and_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    log = site.log()
    log.add(datetime(1970, 1, 2, tzinfo=UTC))
    log.add(datetime(2045, 1, 2, tzinfo=UTC))
    site.archive(noon(5, 12))
    assert "2 decisions are outside of every month's partition" in caplog.text
    assert load_seals(site.bucket)[0].seal.days == {"1970-01-02": 1, "2045-01-02": 1}
    assert site.differences() == []


def test_the_command_seals_what_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    site.log().add(yesterday, 3)
    for name, value in site.variables("owner").items():
        monkeypatch.setenv(name, value)
    assert main(["archive"]) == 0
    assert load_seals(site.bucket)[0].seal.days == {f"{yesterday:%Y-%m-%d}": 3}
    assert files.archived_days(site.bucket) == [yesterday.date()]


def test_two_at_once_do_not_interfere(site: Site) -> None:
    with psycopg.connect(site.database.url("owner"), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [0x6172636869766500])
        with pytest.raises(DecisionsError, match="another archive is running"):
            site.archive(noon(5, 12))


def test_a_forgotten_applicant_leaves_the_archive_and_the_proof_stays(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 12))
    site.archive(JUNE, months=0)
    site.forget("a-2")
    site.archive(datetime(2026, 7, 1, tzinfo=UTC), months=0)
    assert set(site.table(inputs_key(DAY)).column("applicant_id").to_pylist()) == {"a-1"}
    found = site.verify()
    assert (found.findings.differences, found.findings.forgotten, found.findings.records) == ([], 3, 10)
    assert site.owner.execute("SELECT count(*) FROM forgettings WHERE archive_done_at IS NULL").fetchone() == (0,)


def test_older_versions_of_forgotten_inputs_are_deleted(site: Site) -> None:
    site.bucket.client.put_bucket_versioning(
        Bucket=site.bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )  # fmt: skip
    filled(site)
    site.archive(noon(5, 12))
    site.forget("a-1")
    site.archive(noon(5, 12) + timedelta(minutes=1))
    answer = site.bucket.client.list_object_versions(Bucket=site.bucket.name, Prefix=f"stack/{inputs_key(DAY)}")
    assert len(answer["Versions"]) == 1
    assert set(site.table(inputs_key(DAY)).column("applicant_id").to_pylist()) == {"a-2"}


def test_a_seal_is_json_with_its_words(site: Site) -> None:
    filled(site)
    site.archive(noon(5, 11))
    document = json.loads(site.bucket.read("seals/2026-05-10.json"))
    assert list(document) == ["date", "previous", "logs", "count", "root", "days", "format"]
