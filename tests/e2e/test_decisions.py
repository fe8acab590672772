"""The decision log on a cluster: each decision, by whatever protocol it was asked for, is in Postgres once."""

from __future__ import annotations

import io
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet
import pytest

from localcluster.console import wait_for
from localcluster.stack import Stack

# A release of its own, because the decision log is off in the stack that the other tests share.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
NAMESPACE = "decision-log"
ROWS = 7
# The age at which a decision that is still not in Postgres is lost: batches are shipped every second.
ARRIVES_WITHIN_SECONDS = 60
Document = dict[str, Any]


@pytest.fixture(scope="module")
def logged(stack: Stack) -> Iterator[Stack]:
    """A release with the decision log, which serves the shared stack's model."""
    found = Stack(stack.cluster, NAMESPACE, host=f"{NAMESPACE}.credit-risk.test", decision_log="require")
    delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"]
    found.kubectl(*delete)
    others = [f"--set={part}.enabled=false" for part in ("operator", "backup")]
    try:
        # The MLflow of this release only makes the charts complete.
        found.install(
            found.images(),
            [*others, f"--set=api.mlflowUrl=http://mlflow.{stack.namespace}:5000", "--set=api.replicas=2",
             "--set=api.resources.requests.cpu=20m"],
            train=False,
        )  # fmt: skip
        found.wait_for_decisions()
        found.wait_for_scoring()
        yield found
    finally:
        found.kubectl(*delete, "--wait=false")


@dataclass(frozen=True)
class Sender:
    """Sends requests to a release through the ingress."""

    stack: Stack

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """Return the body of an answer; headers are named with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Host": self.stack.host}
        request = urllib.request.Request(self.stack.url + path, body, named, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content

    def score(self, path: str, body: bytes, content_type: str) -> str:
        """Send what is to be scored and return the request's id."""
        request_id = f"e2e-{secrets.token_hex(8)}"
        self.send("POST", path, body, Content_Type=content_type, X_Request_Id=request_id)
        return request_id

    def decisions(self, **query: str | int) -> list[Document]:
        """Return the decisions that the service lists."""
        key = f"Bearer {self.stack.decisions_key}"
        answer = json.loads(self.send("GET", f"/v1/decisions?{urlencode(query)}", Authorization=key))
        found: list[Document] = answer["decisions"]
        return found


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
    job = json.loads(logged.kubectl("get", "cronjob", "decisions-verify", "-o", "json"))["spec"]["jobTemplate"]
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "verify-now"}, "spec": job["spec"]}
    logged.kubectl("apply", "-f", "-", text=json.dumps(manifest))
    logged.kubectl("wait", "--for=condition=Complete", "job/verify-now", "--timeout=180s")


def arrived(sender: Sender, expected: int, **query: str | int) -> list[Document]:
    """Return the decisions that a query finds, once there are as many as expected."""

    def missing() -> str | None:
        found = len(sender.decisions(**query))
        return None if found >= expected else f"{found} of {expected} are there"

    wait_for(f"the decisions of {query}", missing, timeout_seconds=ARRIVES_WITHIN_SECONDS)
    found = sender.decisions(**query)
    assert len(found) == expected
    return found
