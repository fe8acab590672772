"""GET /v1/training-data: which rows are in the table, how they are written, and that the trainer learns from them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.csv
import pyarrow.parquet as pq

from decisions.reading.training_data import months_before
from trainer.data.declaration import FeatureDeclaration
from trainer.data.reading import read_table
from unit.decisions.service.site import Running, Site

OLD = datetime(2025, 3, 1, 12, tzinfo=UTC)


def outcome(site: Site, decision_id: UUID, name: str, observed_at: datetime = OLD + timedelta(days=200)) -> None:
    site.sql("INSERT INTO outcomes VALUES (%s, %s, %s, DEFAULT, 'test')", decision_id, observed_at, name)


def seed(site: Site) -> dict[str, UUID]:
    """Insert one decision of each sort and return them by name."""
    now = datetime.now(UTC)
    made = {
        "repaid": site.decide(OLD),
        "defaulted": site.decide(OLD + timedelta(days=1), role="canary", version="8",
                                 inputs={"income": None, "purpose": {"other": True}, "score": 700}),
        "overridden": site.decide(OLD, decision="decline", role="fall-back"),
        "rejected": site.decide(OLD, decision="decline"),
        "open": site.decide(OLD),
        "unknown": site.decide(OLD),
        "forgotten": site.decide(OLD, applicant_id="gone"),
        "young": site.decide(now - timedelta(days=5) if now.year == 2026 else datetime(2026, 12, 30, tzinfo=UTC)),
        "shadow": site.decide(OLD, role="shadow"),
    }  # fmt: skip
    for name in ("repaid", "overridden", "forgotten", "shadow"):
        outcome(site, made[name], "repaid")
    outcome(site, made["repaid"], "defaulted", OLD + timedelta(days=90))
    for name in ("defaulted", "young"):
        outcome(site, made[name], "defaulted")
    outcome(site, made["open"], "open")
    site.sql("DELETE FROM decision_inputs WHERE applicant_id = 'gone'")
    return made


VERSION_8 = (
    b'{"features": [{"name": "score", "kind": "numeric"}, {"name": "income", "kind": "numeric"}, '
    b'{"name": "purpose", "kind": "categorical", "categories": ["Car"]}]}'
)


async def test_the_table_has_matured_outcomes_of_answers_and_counts_the_rest(site: Site, running: Running) -> None:
    site.version("8", VERSION_8)
    made = seed(site)
    answer = await running.get("/v1/training-data", matured="6m")
    table = pq.read_table(io.BytesIO(answer.content))
    summary = json.loads(table.schema.metadata[b"training-data"])
    counts = {
        name: summary[name]
        for name in ("rows", "repaid", "defaulted", "rejected", "undecided", "too_young", "forgotten")
    }
    assert counts == {
        "rows": 3,
        "repaid": 2,
        "defaulted": 1,
        "rejected": 1,
        "undecided": 2,
        "too_young": 1,
        "forgotten": 1,
    }
    assert summary["columns"] == ["decision_id", "decided_at", "score", "income", "purpose", "outcome"]
    rows = {row.pop("decision_id"): row for row in table.to_pylist()}
    assert set(rows) == {str(made[name]) for name in ("repaid", "overridden", "defaulted")}
    assert rows[str(made["defaulted"])] == {"decided_at": OLD + timedelta(days=1), "score": 700.0, "income": None,
                                            "purpose": "(other)", "outcome": "defaulted"}  # fmt: skip
    assert rows[str(made["repaid"])]["score"] is None
    header = json.loads(answer.headers["training-data"])
    assert header == {name: value for name, value in summary.items() if name != "columns"}
    told = (await running.get("/v1/training-data", matured="6m", format="summary")).json()
    assert told["digest"] == summary["digest"]


async def test_rejected_applicants_are_in_it_on_request_with_their_scores_and_without_an_outcome(
    site: Site, running: Running
) -> None:
    made = seed(site)
    site.sql("UPDATE decisions SET probability = .61 WHERE id = %s", made["rejected"])
    without = (await running.get("/v1/training-data", matured="6m", format="summary")).json()
    answer = await running.get("/v1/training-data", matured="6m", include="rejected")
    table = pq.read_table(io.BytesIO(answer.content))
    summary = json.loads(table.schema.metadata[b"training-data"])
    assert (summary["rows"], summary["rejected"], summary["rejected_rows"]) == (4, 1, 1)
    assert (without["rows"], without["rejected"], without["rejected_rows"]) == (3, 1, 0)
    assert summary["digest"] != without["digest"]
    assert summary["columns"] == table.column_names
    assert "probability_of_default" not in without["columns"]
    rows = {row["decision_id"]: row for row in table.to_pylist()}
    rejected = rows.pop(str(made["rejected"]))
    assert (rejected["outcome"], rejected["probability_of_default"], rejected["purpose"]) == (None, 0.61, "Car")
    # One who was declined, got a loan nevertheless, and repaid is not a rejected applicant.
    assert rows[str(made["overridden"])]["outcome"] == "repaid"
    assert {row["probability_of_default"] for row in rows.values()} == {0.137}
    # An open outcome says as little as none, and who is forgotten is only counted.
    outcome(site, made["rejected"], "open")
    site.sql("DELETE FROM decision_inputs WHERE id = %s", made["rejected"])
    gone = (await running.get("/v1/training-data", matured="6m", format="summary", include="rejected")).json()
    assert (gone["rows"], gone["rejected"], gone["rejected_rows"]) == (3, 1, 0)


async def test_the_digest_follows_the_rows_and_csv_has_the_same(site: Site, running: Running) -> None:
    made = seed(site)
    before = (await running.get("/v1/training-data", matured="6m", format="csv")).headers["training-data"]
    table = pyarrow.csv.read_csv(
        io.BytesIO((await running.get("/v1/training-data", matured="6m", format="csv")).content)
    )
    assert table.column_names == ["decision_id", "decided_at", "income", "purpose", "outcome"]
    assert table.num_rows == 3
    outcome(site, made["unknown"], "open")
    same = (await running.get("/v1/training-data", matured="6m", format="summary")).json()
    assert same["digest"] == json.loads(before)["digest"]
    outcome(site, made["unknown"], "repaid", OLD + timedelta(days=300))
    changed = (await running.get("/v1/training-data", matured="6m", format="summary")).json()
    assert (changed["digest"] != same["digest"], changed["rows"]) == (True, 4)


async def test_the_trainer_reads_the_table_with_its_own_names_and_labels(
    site: Site, running: Running, tmp_path: Path
) -> None:
    seed(site)
    answer = await running.get("/v1/training-data", matured="6m", target="loan_paid_back", repaid="1", defaulted="0")
    path = tmp_path / "training.parquet"
    path.write_bytes(answer.content)
    features: list[dict[str, Any]] = [
        {"name": "income", "kind": "numeric", "unit": "USD", "minimum": 0, "maximum": 1e6, "description": "Income",
         "reason_code": "R1", "missing": "allowed"},
        {"name": "purpose", "kind": "categorical", "categories": ["Car", "Home"], "other": True,
         "description": "Purpose", "reason_code": "R2"},
    ]  # fmt: skip
    declaration = FeatureDeclaration.model_validate({
        "id_column": "decision_id", "date_column": "decided_at", "features": features,
        "target": {"column": "loan_paid_back", "default": "0", "repaid": "1"},
    })  # fmt: skip
    table = read_table(str(path), declaration, scratch=tmp_path, synthetic_rows=1, seed=1)
    assert sorted(table.frame["loan_paid_back"].astype(str)) == ["0", "1", "1"]


async def test_names_that_are_taken_and_labels_that_are_one_are_refused(site: Site, running: Running) -> None:
    seed(site)
    for parameters, field in [
        ({"target": "income", "matured": "6m"}, "target"), ({"target": "decision_id"}, "target"),
        ({"repaid": "1", "defaulted": "1"}, "defaulted"), ({"matured": "6"}, "matured"), ({"format": "xls"}, "format"),
        ({"include": "shadow"}, "include"), ({"target": "probability_of_default", "include": "rejected"}, "target"),
    ]:  # fmt: skip
        answer = await running.get("/v1/training-data", **parameters)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


async def test_an_empty_table_is_a_table(running: Running) -> None:
    table = pq.read_table(io.BytesIO((await running.get("/v1/training-data")).content))
    assert (table.num_rows, table.column_names) == (0, ["decision_id", "decided_at", "outcome"])
    text = (await running.get("/v1/training-data", format="csv")).text
    assert text.strip() == '"decision_id","decided_at","outcome"'


async def test_connections_are_given_back(site: Site, running: Running) -> None:
    seed(site)
    for _ in range(running.service.settings.database_connections + 2):
        assert (await running.get("/v1/training-data", matured="6m")).status_code == 200
        assert (await running.get("/v1/training-data", target="decision_id")).status_code == 422
    assert not running.service.downloads.locked()


def test_months_before_end_on_the_last_day_if_there_is_no_such_day() -> None:
    assert months_before(datetime(2026, 3, 31, 5, tzinfo=UTC), 1) == datetime(2026, 2, 28, 5, tzinfo=UTC)
    assert months_before(datetime(2026, 1, 15, tzinfo=UTC), 13) == datetime(2024, 12, 15, tzinfo=UTC)
    assert months_before(datetime(2026, 12, 31, tzinfo=UTC), 0) == datetime(2026, 12, 31, tzinfo=UTC)
