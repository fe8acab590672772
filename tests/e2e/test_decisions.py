"""The decision log on a cluster: each decision, by whatever protocol it was asked for, is in Postgres once."""

from __future__ import annotations

import io
import json
import secrets
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from e2e.decision_log import Document, Sender, install, run_job, verify
from localcluster import object_store
from localcluster.console import wait_for
from localcluster.stack import Stack

# A release of its own, because the decision log is off in the stack that the other tests share.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAMESPACE = "decision-log"
ROWS = 7
# The age at which a decision that is still not in Postgres is lost: batches are shipped every second.
ARRIVES_WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def logged(stack: Stack) -> Iterator[Stack]:
    """A release with the decision log, which serves the shared stack's model."""
    found = Stack(stack.cluster, NAMESPACE, host=f"{NAMESPACE}.credit-risk.test", decision_log="require")
    delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"]
    found.kubectl(*delete)
    try:
        install(found, stack, "--set=api.replicas=2")
        yield found
    finally:
        found.kubectl(*delete, "--wait=false")


@pytest.fixture(scope="module")
def sender(logged: Stack) -> Sender:
    return Sender(logged)


@pytest.fixture(scope="module")
def applications(logged: Stack) -> list[Document]:
    reference = logged.get("/v1/model")["contract"]["reference_applicant"]
    return [reference for _ in range(ROWS)]


def tensors(rows: list[Document]) -> bytes:
    """Return rows as a request of the Open Inference Protocol."""
    inputs = [
        {"name": name, "shape": [len(rows)], "datatype": "BYTES" if isinstance(value, str) else "FP64",
         "data": [row[name] for row in rows]}
        for name, value in rows[0].items()
    ]  # fmt: skip
    return json.dumps({"inputs": inputs}).encode()


def table(rows: list[Document]) -> bytes:
    """Return rows as a Parquet file."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def columns(rows: list[Document]) -> bytes:
    """Return rows as one array per field."""
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode()


def lines(rows: list[Document]) -> bytes:
    """Return rows as newline-delimited JSON."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def delimited(rows: list[Document]) -> bytes:
    """Return rows as CSV."""
    return "\n".join(",".join(map(str, values)) for values in [[*rows[0]], *(row.values() for row in rows)]).encode()


Make = Callable[[list[Document]], bytes]
PARQUET = "application/vnd.apache.parquet"
PROTOCOLS: dict[str, tuple[str, str, Make, int]] = {
    "single": ("/v1/score", "application/json", lambda rows: json.dumps(rows[0]).encode(), 1),
    "single with reasons": ("/v1/score?reasons=4", "application/json", lambda rows: json.dumps(rows[0]).encode(), 1),
    "rows": ("/v1/score/batch", "application/json", lambda rows: json.dumps(rows).encode(), ROWS),
    "columns": ("/v1/score/batch", "application/json", columns, ROWS),
    "ndjson": ("/v1/score/batch", "application/x-ndjson", lines, ROWS),
    "CSV": ("/v1/score/batch", "text/csv", delimited, ROWS),
    "Parquet": ("/v1/score/batch", PARQUET, table, ROWS),
    "MLflow": ("/invocations", "application/json",
               lambda rows: json.dumps({"dataframe_records": rows}).encode(), ROWS),
    "Open Inference": ("/v2/models/credit-risk/infer", "application/json", tensors, ROWS),
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_decision_is_in_the_database_once(sender: Sender, applications: list[Document], protocol: str) -> None:
    path, content_type, make, expected = PROTOCOLS[protocol]
    request_id = sender.score(path, make(applications), content_type)
    found = arrived(sender, expected, request_id=request_id)
    assert sorted(decision["row"] for decision in found) == list(range(expected))
    assert {decision["role"] for decision in found} == {"champion"}
    assert len({decision["decision_id"] for decision in found}) == expected


def test_an_answers_decision_is_found_by_its_id_and_its_applicant_with_what_was_scored(
    sender: Sender, applications: list[Document]
) -> None:
    applicant = f"applicant-{secrets.token_hex(6)}"
    body = json.dumps({**applications[0], "applicant_id": applicant}).encode()
    answer = json.loads(sender.send("POST", "/v1/score", body, Content_Type="application/json"))
    (found,) = arrived(sender, 1, applicant_id=applicant)
    assert found["decision_id"] == answer["decision_id"]
    assert found["decision"] == answer["decision"]
    assert found["score_points"] == answer["score_points"]
    assert found["probability_of_default"] == pytest.approx(answer["probability_of_default"], abs=1e-6)
    assert found["model"]["version"] == answer["model"]["version"]
    sent = applications[0]
    numbers = {name: pytest.approx(value, rel=1e-6) for name, value in sent.items() if isinstance(value, float)}
    assert found["inputs"] == sent | numbers


def test_decisions_of_a_pod_that_was_deleted_right_after_its_answers_are_there(
    logged: Stack, sender: Sender, applications: list[Document]
) -> None:
    asked = [sender.score("/v1/score", json.dumps(applications[0]).encode(), "application/json") for _ in range(20)]
    logged.kubectl("delete", "pods", "-l", "creditrisk.io/track=stable", "--wait=false")
    for request_id in asked:
        arrived(sender, 1, request_id=request_id)
    logged.wait_for_scoring()


def test_nobody_reads_decisions_without_a_key(sender: Sender) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        sender.send("GET", "/v1/decisions")
    assert caught.value.code == 401


def test_the_log_verifies(logged: Stack, sender: Sender, applications: list[Document]) -> None:
    request_id = sender.score("/v1/score", json.dumps(applications[0]).encode(), "application/json")
    arrived(sender, 1, request_id=request_id)
    assert verify(logged)["findings"]["records"] > 0


def test_outcomes_are_loaded_from_s3_by_a_job(
    logged: Stack, sender: Sender, applications: list[Document], tmp_path: Path
) -> None:
    applicant = f"applicant-{secrets.token_hex(6)}"
    body = json.dumps({**applications[0], "applicant_id": applicant}).encode()
    decision = json.loads(sender.send("POST", "/v1/score", body, Content_Type="application/json"))["decision_id"]
    arrived(sender, 1, applicant_id=applicant)
    file = tmp_path / "outcomes.csv"
    now = datetime.now(UTC).isoformat()
    file.write_text(f"decision_id,outcome,observed_at\n{decision},repaid,{now}\nnonsense,repaid,{now}\n")
    source = object_store.upload(logged, file)
    report = json.loads(run_job(logged, "decisions-load-outcomes", "load-outcomes", source, "--json"))
    assert (report["added"], report["rejected"]) == (1, 1)
    (found,) = sender.decisions(applicant_id=applicant)
    assert found["outcome"]["outcome"] == "repaid"


def test_a_range_is_exported_to_s3_by_a_job(logged: Stack, sender: Sender, applications: list[Document]) -> None:
    request_id = sender.score("/v1/score", json.dumps(applications[0]).encode(), "application/json")
    arrived(sender, 1, request_id=request_id)
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    target = "s3://decisions/exports/last-hour.parquet"
    report = json.loads(
        run_job(logged, "decisions-archive", "export", "--from", since, "--output", target, "--json")
    )  # fmt: skip
    assert (report["output"], report["forgotten"]) == (target, 0)
    assert report["decisions"] > 0


def test_a_job_reports_drift_which_the_service_shows(
    logged: Stack, sender: Sender, applications: list[Document]
) -> None:
    # All alike, as training's rows were not.
    rows = applications[:1] * 300
    request_id = sender.score("/v1/score/batch", json.dumps(rows).encode(), "application/json")
    model = arrived(sender, len(rows), request_id=request_id, limit=1000)[0]["model"]["name"]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    run_job(logged, "decisions-drift", "drift", "--to", str(tomorrow), "--days", "2", "--publish", "--exit-zero")
    key = f"Bearer {logged.decisions_key}"
    status = json.loads(sender.send("GET", f"/v1/models/{model}/drift", Authorization=key))
    assert status["verdict"] == "drifted"
    assert "score" in status["drifted"]
    assert status["decisions"] >= len(rows)
    page = sender.send("GET", f"/v1/models/{model}/drift/report", Authorization=key).decode()
    assert status["headline"] in page


def arrived(sender: Sender, expected: int, **query: str | int) -> list[Document]:
    """Return the decisions that a query finds, once there are as many as expected."""

    def missing() -> str | None:
        found = len(sender.decisions(**query))
        return None if found >= expected else f"{found} of {expected} are there"

    wait_for(f"the decisions of {query}", missing, timeout_seconds=ARRIVES_WITHIN_SECONDS)
    found = sender.decisions(**query)
    assert len(found) == expected
    return found
