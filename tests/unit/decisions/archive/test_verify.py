"""Each way of tampering, by a superuser or with the archive's files, and the words that tell it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from decisions.__main__ import main
from decisions.archive.files import decisions_key, inputs_key
from decisions.records.record import Record, chain_hash
from unit.decisions.archive.site import Site, noon

DAY = date(2026, 5, 10)
LOG = "00000000-0000-0000-0000-000000000001"
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def ids(site: Site) -> list[str]:
    """Decisions of two logs and two days, of which the first is sealed: six and two of the first log."""
    log = site.log()
    log.add(noon(5, 10), 6)
    site.log(2).add(noon(5, 10), 3, applicant="a-2")
    site.archive(noon(5, 11))
    log.add(noon(5, 11), 2)
    assert site.differences() == []
    return log.ids


def test_what_is_as_it_was_written_has_no_differences(site: Site, ids: list[str]) -> None:
    found = site.verify()
    assert (found.seals, found.findings.records, found.unsealed) == (1, 11, 2)
    assert site.verify(until=DAY).findings.records == 9
    assert site.verify(since=date(2026, 5, 11)).findings.records == 2


@pytest.mark.parametrize(
    "change",
    ["points = 1", "probability = 0.111", "decision = 'decline'", "reasons = '{R9}'", "client = 'x'", "grade = 'A'",
     "latency_us = 1", "role = 'shadow'", "request_id = 'x'", "endpoint = 'x'", "pod = 'x'", "row = 9"],
)  # fmt: skip
def test_a_changed_record_is_named(site: Site, ids: list[str], change: str) -> None:
    name, value = change.split(" = ")
    site.database.sql(f"UPDATE decisions SET \"{name}\" = {value} WHERE id = '{ids[2]}'")
    assert site.differences() == [
        f"changed: decision {ids[2]} (record 3 of log {LOG}) does not fit its hash: it was changed"
    ]


def test_a_changed_record_with_a_new_hash_breaks_chain_and_seal(site: Site, ids: list[str]) -> None:
    rehash(site, ids[2])
    found = site.differences()
    assert found[0] == (
        f"changed: decision {ids[3]} (record 4 of log {LOG}) does not follow record 3 of its log: "
        "one of them was changed or replaced"
    )
    assert found[1] == "seal: the seal of 2026-05-10 does not match, because of the differences above"


def test_a_changed_last_record_with_a_new_hash_is_not_the_sealed_one(site: Site, ids: list[str]) -> None:
    site.database.sql("DELETE FROM decisions WHERE sequence > 6")
    site.database.sql("DELETE FROM decision_inputs WHERE id = ANY(%s::uuid[])", ids[6:])
    rehash(site, ids[5])
    assert site.differences() == [
        f"changed: record 6 of log {LOG} is another than the one that was sealed",
        "seal: the seal of 2026-05-10 does not match, because of the differences above",
    ]


def test_a_removed_record_is_named(site: Site, ids: list[str]) -> None:
    site.database.sql(f"DELETE FROM decisions WHERE id = '{ids[2]}'")
    assert site.differences() == [
        f"removed: record 3 is missing from log {LOG}",
        "seal: the seal of 2026-05-10 does not match, because of the differences above",
        f"removed: decision {ids[2]} is missing: its inputs are there",
    ]


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ("sequence BETWEEN 1 AND 2", "the 2 records from 1 to 2 are missing"),
        ("sequence BETWEEN 5 AND 6", "the 2 records from 5 to 6 are missing"),
        ("sequence BETWEEN 1 AND 6", "the 6 records from 1 to 6 are missing"),
        ("true", "the 6 records from 1 to 6 are missing"),
    ],
)
def test_removed_records_are_counted_wherever_they_were(site: Site, ids: list[str], removed: str, words: str) -> None:
    chosen = f"SELECT id FROM decisions WHERE log_id = '{LOG}' AND {removed}"
    site.database.sql(f"DELETE FROM decision_inputs WHERE id IN ({chosen})")
    site.database.sql(f"DELETE FROM decisions WHERE id IN ({chosen})")
    assert f"removed: {words} from log {LOG}" in site.differences()


def test_a_record_that_is_not_sealed_yet_is_missed_by_its_successor(site: Site, ids: list[str]) -> None:
    site.database.sql("DELETE FROM decision_inputs WHERE id = %s", ids[6])
    site.database.sql("DELETE FROM decisions WHERE id = %s", ids[6])
    assert site.differences() == [f"removed: record 7 is missing from log {LOG}"]


@pytest.mark.parametrize("sequence", [3, 0])
def test_an_inserted_record_is_named(site: Site, ids: list[str], sequence: int) -> None:
    inserted = ids[2][:-4] + "ffff"
    columns = ("request_id, row, endpoint, role, client, model_version, probability, points, decision, grade, reasons, "
               "latency_us, pod, log_id")  # fmt: skip
    site.database.sql(
        f"INSERT INTO decisions (id, {columns}, sequence, inputs_hash, previous_hash, hash) "
        f"SELECT %s, {columns}, %s, inputs_hash, previous_hash, %s FROM decisions WHERE id = %s",
        inserted, sequence, b"\1" * 32, ids[2],
    )  # fmt: skip
    (found,) = site.differences()
    assert found.startswith(f"inserted: decision {inserted} (record {sequence} of log {LOG}) ")
    assert found.endswith("has a sequence that its log does not have" if sequence == 0 else f"in the place of {ids[2]}")


@pytest.mark.parametrize("change", ["""inputs = '{"income":1}'""", "applicant_id = 'a-9'", "salt = '\\x00'"])
def test_inputs_that_do_not_fit_their_hash_are_named(site: Site, ids: list[str], change: str) -> None:
    site.database.sql(f"UPDATE decision_inputs SET {change} WHERE id = '{ids[2]}'")
    assert site.differences() == [
        f"inputs: the inputs of decision {ids[2]} (record 3 of log {LOG}) do not fit their hash: they were changed"
    ]


def test_forgotten_inputs_are_counted_and_no_difference(site: Site, ids: list[str]) -> None:
    site.forget("a-2")
    found = site.verify()
    assert (found.findings.forgotten, found.findings.differences) == (3, [])


def test_a_changed_model_version_is_named(site: Site, ids: list[str]) -> None:
    site.database.sql("UPDATE model_versions SET contract = '{}'")
    (found,) = site.differences()
    assert found.startswith("version: version 7 of model credit-risk was changed")


def test_a_changed_seal_is_named(site: Site, ids: list[str]) -> None:
    site.archive(noon(5, 12))
    edit_seal(site, "2026-05-10", root="00" * 32)
    found = site.differences()
    assert found[0] == "seal: the seal of 2026-05-10 was changed: that of 2026-05-11 names another"
    assert found[1].startswith(
        f"seal: the seal of 2026-05-10 does not match: it says 9 records with the root {'00' * 32}"
    )


def test_a_missing_seal_is_named(site: Site, ids: list[str]) -> None:
    site.archive(noon(5, 13))
    site.bucket.client.delete_object(Bucket=site.bucket.name, Key="stack/seals/2026-05-11.json")
    assert "seal: the seals between 2026-05-10 and 2026-05-12 are missing" in site.differences()
    site.bucket.client.delete_object(Bucket=site.bucket.name, Key="stack/seals/2026-05-10.json")
    assert "seal: the seal before that of 2026-05-12 is missing" in site.differences()


def test_changed_removed_and_inserted_rows_of_the_archive_are_named(site: Site, ids: list[str]) -> None:
    site.archive(noon(5, 12))
    site.archive(JUNE, months=0)
    assert site.differences() == []
    whole = site.bucket.read(decisions_key(DAY))

    site.edit(decisions_key(DAY), lambda rows: [{**row, "points": 1} if row["id"] == ids[2] else row for row in rows])
    assert site.differences() == [
        f"changed: decision {ids[2]} (record 3 of log {LOG}) does not fit its hash: it was changed"
    ]
    restore(site, decisions_key(DAY), whole)
    site.edit(decisions_key(DAY), lambda rows: [row for row in rows if row["id"] != ids[2]])
    assert site.differences()[:2] == [
        f"removed: record 3 is missing from log {LOG}",
        f"archive: {inputs_key(DAY)}: the inputs of {ids[2]} belong to no decision of that day, "
        "or are in another order",
    ]
    restore(site, decisions_key(DAY), whole)
    inputs = site.bucket.read(inputs_key(DAY))
    site.edit(inputs_key(DAY), lambda rows: [row for row in rows if row["id"] != ids[2]])
    site.edit(decisions_key(DAY), lambda rows: [row for row in rows if row["id"] != ids[2]])
    assert f"removed: record 3 is missing from log {LOG}" in site.differences()
    restore(site, decisions_key(DAY), whole)
    restore(site, inputs_key(DAY), inputs)
    inserted = ids[2][:-4] + "ffff"
    site.edit(decisions_key(DAY), lambda rows: [*rows, {**rows[-1], "id": inserted, "log_id": "f" * 8 + LOG[8:]}])
    assert site.differences() == [f"inserted: decision {inserted} is in the archive of {DAY}, but in no seal"]
    restore(site, decisions_key(DAY), whole)
    site.edit(inputs_key(DAY), lambda rows: [{**row, "inputs": "{}"} if row["id"] == ids[2] else row for row in rows])
    assert site.differences() == [
        f"inputs: the inputs of decision {ids[2]} (record 3 of log {LOG}) do not fit their hash: they were changed"
    ]


def test_a_missing_and_an_unreadable_archive_are_told(site: Site, ids: list[str]) -> None:
    site.archive(noon(5, 12))
    site.archive(JUNE, months=0)
    restore(site, decisions_key(DAY), b"PAR1 no more")
    found = site.differences()
    assert "cannot be read as Parquet" in found[0]
    assert f"removed: the 6 records from 1 to 6 are missing from log {LOG}" in found
    site.bucket.client.delete_object(Bucket=site.bucket.name, Key=f"stack/{decisions_key(DAY)}")
    assert f"removed: the 6 records from 1 to 6 are missing from log {LOG}" in site.differences()


def test_the_command_says_it_by_its_exit_code(
    site: Site, ids: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in site.variables("reader").items():
        monkeypatch.setenv(name, value)
    assert main(["verify"]) == 0
    assert capfd.readouterr().out == (
        "no difference: 11 records verified, by 1 seals and 2 without a seal yet; the inputs of 0 were forgotten\n"
    )
    site.database.sql(f"UPDATE decisions SET points = 1 WHERE id = '{ids[2]}'")
    assert main(["verify"]) == 3
    assert f"changed: decision {ids[2]}" in capfd.readouterr().out
    assert main(["verify", "--json", "--to", "2026-05-10"]) == 3
    printed = json.loads(capfd.readouterr().out)
    assert printed["findings"]["differences"][0]["decision_id"] == ids[2]
    assert main(["verify", "--from", "2026-05-11", "--to", "2026-05-10"]) == 2


def test_retention_below_six_months_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DECISIONS_DATABASE_URL", site.database.url("owner"))
    monkeypatch.setenv("DECISIONS_S3_BUCKET", site.bucket.name)
    monkeypatch.setenv("DECISIONS_RETENTION_MONTHS", "5")
    assert main(["archive"]) == 2
    assert "DECISIONS_RETENTION_MONTHS: Input should be greater than or equal to 6" in caplog.text


def rehash(site: Site, decision_id: str) -> None:
    """Change a record and give it the hash that it would have."""
    site.database.sql("UPDATE decisions SET points = 1 WHERE id = %s", decision_id)
    columns = ", ".join(
        f'"{name}"::text' if name in {"id", "model_version", "log_id"} else f'"{name}"'
        for name in Record.__struct_fields__
    )
    (row,) = site.database.sql(f"SELECT {columns}, previous_hash FROM decisions WHERE id = %s", decision_id)
    *values, inputs_hash, previous_hash = row
    record = Record(*[*values, inputs_hash.hex()])
    site.database.sql("UPDATE decisions SET hash = %s WHERE id = %s", chain_hash(previous_hash, record), decision_id)


def edit_seal(site: Site, day: str, **changes: Any) -> None:
    document = {**json.loads(site.bucket.read(f"seals/{day}.json")), **changes}
    restore(site, f"seals/{day}.json", msgspec.json.encode(document))


def restore(site: Site, key: str, content: bytes) -> None:
    site.bucket.client.put_object(Bucket=site.bucket.name, Key=f"stack/{key}", Body=content)
