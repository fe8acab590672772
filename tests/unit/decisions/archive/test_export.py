"""A range as one Parquet file, from the database and from the archive."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from conftest import REPOSITORY
from decisions.archive.export import Exported, Range, export
from decisions.errors import DecisionsError
from unit.decisions.archive.site import Site, noon

MAY = Range(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
# When the months until May are only in the archive.
NEXT_YEAR = noon(1, 15, 2027)


def exported(site: Site, file: Path, wanted: Range = MAY, role: str = "reader", *, inputs: bool = True) -> Exported:
    with psycopg.connect(site.database.url(role), autocommit=True) as connection:
        return export(connection, site.bucket, wanted, file, inputs=inputs)


def filled(site: Site) -> list[str]:
    """Write decisions around and in May; return the ids of those in May by day, log and sequence."""
    first, second = site.log(), site.log(2)
    first.add(datetime(2026, 4, 30, 23, 59, 59, 999000, tzinfo=UTC))
    start = first.add(datetime(2026, 5, 1, tzinfo=UTC))
    later = second.add(noon(5, 10), 2, applicant="a-2")
    earlier = first.add(noon(5, 10), 3)
    second.add(datetime(2026, 6, 1, tzinfo=UTC))
    return [*start, *earlier, *later]


def test_a_range_has_each_of_its_decisions_with_inputs_and_hashes(site: Site, tmp_path: Path) -> None:
    ids = filled(site)
    file = tmp_path / "may.parquet"
    assert exported(site, file) == Exported(6, 0)
    rows = pq.read_table(file).to_pylist()
    assert [row["id"] for row in rows] == ids
    stored: dict[str, bytes] = dict(site.owner.execute("SELECT id::text, hash FROM decisions").fetchall())
    assert [row["hash"] for row in rows] == [stored[id_] for id_ in ids]
    assert [row["applicant_id"] for row in rows] == ["a-1"] * 4 + ["a-2"] * 2
    assert [json.loads(row["inputs"])["purpose"] for row in rows] == ["Käse"] * 6
    assert all(len(row["salt"]) == 16 for row in rows)
    assert rows[0]["time"] == MAY.since


def test_what_is_only_in_the_archive_is_exported_as_it_was_from_the_database(site: Site, tmp_path: Path) -> None:
    filled(site)
    exported(site, tmp_path / "before.parquet")
    site.archive(NEXT_YEAR)
    assert site.owner.execute("SELECT to_regclass('decisions_2026_05')").fetchone() == (None,)
    assert exported(site, tmp_path / "after.parquet", role="owner") == Exported(6, 0)
    assert pq.read_table(tmp_path / "after.parquet") == pq.read_table(tmp_path / "before.parquet")


def test_late_decisions_of_a_dropped_month_are_exported_beside_those_of_the_archive(site: Site, tmp_path: Path) -> None:
    ids = filled(site)
    site.archive(NEXT_YEAR)
    late = site.log(3).add(noon(5, 10))
    exported(site, tmp_path / "may.parquet", role="owner")
    assert sorted(pq.read_table(tmp_path / "may.parquet")["id"].to_pylist()) == sorted([*ids, *late])


@pytest.mark.parametrize("dropped", [False, True])
def test_inputs_of_forgotten_applicants_are_left_out_before_the_archive_knows(
    site: Site, tmp_path: Path, dropped: bool
) -> None:
    filled(site)
    if dropped:
        site.archive(NEXT_YEAR)
    site.forget("a-2")
    assert exported(site, tmp_path / "may.parquet", role="owner") == Exported(6, 2)
    rows = pq.read_table(tmp_path / "may.parquet").to_pylist()
    assert [(row["applicant_id"], row["inputs"] is None) for row in rows[-3:]] == [
        ("a-1", False), (None, True), (None, True),
    ]  # fmt: skip
    assert b"a-2" not in (tmp_path / "may.parquet").read_bytes()


def test_a_reader_gets_inputs_of_dropped_months_only_from_whom_knows_the_forgotten(site: Site, tmp_path: Path) -> None:
    filled(site)
    site.archive(NEXT_YEAR)
    with pytest.raises(DecisionsError, match="need the role decisions_owner"):
        exported(site, tmp_path / "may.parquet")
    assert exported(site, tmp_path / "may.parquet", inputs=False).decisions == 6
    assert not {"applicant_id", "salt", "inputs"} & set(pq.read_schema(tmp_path / "may.parquet").names)


def test_a_month_that_is_dropped_meanwhile_is_an_error_and_no_gap(site: Site, tmp_path: Path) -> None:
    filled(site)
    with (
        psycopg.connect(site.database.url("owner"), autocommit=True) as connection,
        pytest.raises(DecisionsError, match=r"months were dropped meanwhile \(2026_04, 2026_05"),
    ):
        export(connection, site.bucket, MAY, tmp_path / "may.parquet", inputs=True,
               progress=lambda day, _: site.archive(NEXT_YEAR) if day.day == 1 else None)  # fmt: skip


# --- the command


def command(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **site.store, "PYTHONPATH": str(REPOSITORY / "images/decisions/src"),
        "DECISIONS_DATABASE_URL": site.database.url("reader"), "DECISIONS_S3_BUCKET": site.bucket.name,
        "DECISIONS_S3_PREFIX": site.bucket.prefix,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "decisions", "export", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_writes_a_file_and_says_what_is_in_it(site: Site, tmp_path: Path) -> None:
    ids = filled(site)
    file = tmp_path / "may.parquet"
    ended = command(site, "--from", "2026-05-01", "--to", "2026-06-01", "--output", str(file), "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "since": "2026-05-01T00:00:00Z", "until": "2026-06-01T00:00:00Z", "output": str(file),
        "sha256": sha256(file.read_bytes()).hexdigest(), "decisions": 6, "forgotten": 0,
    }  # fmt: skip
    assert pq.read_table(file)["id"].to_pylist() == ids
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_the_command_writes_to_s3(site: Site) -> None:
    filled(site)
    target = f"s3://{site.bucket.name}/exports/first.parquet"
    ended = command(site, "--from", "2026-05-01", "--to", "2026-05-01T12:00:00+02:00", "--output", target)
    assert ended.returncode == 0, ended.stderr
    assert f"1 decisions from 2026-05-01T00:00:00+00:00 to 2026-05-01T10:00:00+00:00 are in {target}" in ended.stdout
    body = site.bucket.client.get_object(Bucket=site.bucket.name, Key="exports/first.parquet")["Body"].read()
    assert sha256(body).hexdigest() in ended.stdout


def test_wrong_usage_and_places_that_cannot_be_written_are_told(site: Site, tmp_path: Path) -> None:
    absent = tmp_path / "absent" / "x.parquet"
    nowhere = "s3://no such bucket/x.parquet"
    for arguments, code, words in [
        (["--from", "May", "--output", "x.parquet"], 2, "--from is 'May'; allowed: a date or time of ISO 8601"),
        (["--from", "2026-05-02", "--to", "2026-05-02", "--output", "x.parquet"], 2, "is not before --to 2026-05-02"),
        (["--from", "2026-05-01", "--output", "x.csv"], 2, "--output x.csv: the name must end in .parquet"),
        (["--from", "2026-05-01", "--output", "s3://x.parquet"], 2, "allowed: s3://BUCKET/KEY"),
        (["--from", "2026-05-01", "--output", str(absent)], 1, f"cannot write {absent}"),
        (["--from", "2026-05-01", "--output", nowhere], 1, "Invalid bucket name"),
    ]:
        ended = command(site, *arguments)
        assert (ended.returncode, words in ended.stderr) == (code, True), ended.stderr
        assert "Traceback" not in ended.stderr
