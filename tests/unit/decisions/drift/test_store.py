"""Reports on the decision log itself: days from the archive and from the database, outcomes, and what is published."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from decisions.__main__ import main
from decisions.archive.files import decisions_key, inputs_key
from decisions.records.model_versions import ModelVersion
from unit.decisions.archive.conftest import client, empty, site, store
from unit.decisions.archive.site import Site
from unit.decisions.drift.portfolio import VERSION, Habits, Portfolio
from unit.decisions.replay.registry import mlflow_of_files

__all__ = ["client", "empty", "site", "store"]
# The first days are only in the archive.
ARCHIVED, FIRST, CHANGE = 4, date(2026, 5, 6), date(2026, 5, 11)
_COLUMNS = ("id, request_id, row, endpoint, role, client, model_version, probability, points, decision, grade, "
            "reasons, latency_us, pod, log_id, sequence, inputs_hash, previous_hash, hash")  # fmt: skip


@pytest.fixture
def filled(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log whose first days are in the archive, and the others in the database; return the same as files."""
    folder = tmp_path / "files"
    Portfolio(FIRST, 8, 120, {CHANGE: Habits(income=0.5)}).write(folder)
    bucket = site.bucket
    with psycopg.connect(site.database.url("owner"), autocommit=True) as connection:
        # Registered under another name than the one that its contract has.
        version = ModelVersion("home-loans", "7", {"model.onnx": "ab" * 32}, (folder / "contract.json").read_bytes())
        values = [VERSION, version.name, version.version, json.dumps(version.digests), version.contract]
        connection.execute("INSERT INTO model_versions VALUES (%s, %s, %s, %s, %s)", values)
        for number in range(8):
            day = date.fromordinal(FIRST.toordinal() + number)
            if number < ARCHIVED:
                for key in (decisions_key(day), inputs_key(day)):
                    bucket.upload(key, folder / key, {"rows": "120"})
            else:
                _insert(connection, folder, day)
    with psycopg.connect(site.database.url("service"), autocommit=True) as connection:
        _copy(connection, "outcomes (decision_id, outcome, observed_at, reported_by)", [
            (*row.values(), "servicer") for row in pq.read_table(folder / "outcomes.parquet").to_pylist()
        ])  # fmt: skip
    for name, value in site.variables("service").items():
        monkeypatch.setenv(name, value)
    return folder


def test_the_log_and_its_files_give_the_same_report(
    filled: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    period = ["--from", "2026-05-11", "--to", "2026-05-14", "--compare-days", "5", "--json",
              "--reference", f"{filled}/training-reference.json"]  # fmt: skip
    assert main(["drift", *period, "--publish", "--exit-zero"]) == 0
    of_log = json.loads(capsys.readouterr().out)
    assert main(["drift", *period, "--decisions", str(filled), "--contract", f"{filled}/contract.json",
                 "--outcomes", f"{filled}/outcomes.parquet"]) == 3  # fmt: skip
    of_files = json.loads(capsys.readouterr().out)
    assert of_log["version"] == "7"
    assert "income" in of_log["drifted"]
    for name in ("decisions", "features", "reasons", "segments", "drifted", "limits"):
        assert of_log[name] == of_files[name], name
    # Sums of probabilities depend on the order of the rows.
    (ours,), (theirs,) = of_log["months"], of_files["months"]
    for name in ("month", "loans", "cumulative"):
        assert ours[name] == theirs[name], name
    assert ours["expected"]["auc"]["value"] == pytest.approx(theirs["expected"]["auc"]["value"])
    ((model, verdict, document),) = site.database.sql("SELECT model, verdict, document::text FROM drift_reports")
    assert (model, verdict, json.loads(document)) == ("home-loans", "drifted", of_log)


@pytest.mark.parametrize(
    ("trained", "new"),
    [
        # May had matured, and half of its outcomes were known.
        ("2026-10-20", "late"),
        # May was still young.
        ("2026-05-20", "all"),
        (None, "unknown"),
    ],
)
def test_new_outcomes_are_those_that_the_version_could_not_learn_from(
    filled: Path, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trained: str | None,
    new: str,
) -> None:  # fmt: skip
    site.database.sql(
        "UPDATE outcomes SET reported_at = '2026-10-01Z' WHERE get_byte(uuid_send(decision_id), 15) % 2 = 0"
    )
    # What was known then is observed again, without a change.
    site.database.sql(
        "INSERT INTO outcomes SELECT decision_id, observed_at + interval '1 day', outcome, now(), 'servicer' "
        "FROM outcomes WHERE reported_at < '2026-10-20Z'"
    )
    ((late, total),) = site.database.sql(
        "SELECT count(*) FILTER (WHERE first >= '2026-10-20Z'), count(*) "
        "FROM (SELECT min(reported_at) AS first FROM outcomes GROUP BY decision_id) f"
    )
    with mlflow_of_files() as registry:
        monkeypatch.setenv("DECISIONS_MLFLOW_URL", registry.url)
        if trained:
            registry.registered["7"] = int(datetime.fromisoformat(trained).replace(tzinfo=UTC).timestamp())
        assert main(["drift", "--from", "2026-05-11", "--to", "2026-05-14", "--matured-months", "1", "--json",
                     "--exit-zero"]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)["new_outcomes"]
    assert 0 < late < total
    assert found == {"late": late, "all": total, "unknown": None}[new]


def test_a_log_without_decisions_is_no_failure_of_the_daily_job(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = ["drift", "--from", "2020-01-01", "--to", "2020-01-03"]
    assert main([*old, "--publish", "--exit-zero"]) == 0
    assert main(old) == 1
    assert "there are no decisions from 2020-01-01 to 2020-01-03" in caplog.text


def test_several_models_need_a_name(filled: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.database.sql("INSERT INTO model_versions SELECT gen_random_uuid(), 'other', '1', digests, contract "
                      "FROM model_versions WHERE id = %s", VERSION)  # fmt: skip
    site.database.sql("UPDATE decisions SET model_version = (SELECT id FROM model_versions WHERE name = 'other') "
                      "WHERE sequence % 2 = 0")  # fmt: skip
    period = ["--from", "2026-05-11", "--to", "2026-05-14"]
    assert main(["drift", *period]) == 2
    assert "several models decided: home-loans, other" in caplog.text
    assert main(["drift", *period, "--model", "other", "--exit-zero"]) == 0


def _insert(connection: psycopg.Connection, folder: Path, day: date) -> None:
    rows = pq.read_table(folder / decisions_key(day)).to_pylist()
    _copy(connection, f'decisions ({_COLUMNS.replace(" row", """ "row" """)})', [
        tuple(row[name] for name in _COLUMNS.split(", ")) for row in rows
    ])  # fmt: skip
    known = pq.read_table(folder / inputs_key(day)).to_pylist()
    _copy(connection, "decision_inputs (id, applicant_id, salt, inputs)", [tuple(row.values()) for row in known])


def _copy(connection: psycopg.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)
