"""A trace from the ingress through the scoring pods, received by the stack's own MLflow, which takes OTLP."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Iterator

import pytest
from mlflow.entities import Span
from mlflow.exceptions import MlflowException

from e2e.environment import Environment
from localcluster.console import wait_for
from localcluster.stack import RELEASE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NAMESPACE, HOST, PARENT = "traces", "traces.credit-risk.test", "00f067aa0ba902b7"
REQUEST = "POST /v1/score"
# All applicants go to a canary, which is the Service of the stable pods: another hop through the cluster, but a version
# that the answer does not have, so that the stable pod answers itself.
ROUTE = {
    "generation": 1, "salt": "salt",
    "canary": {"version": "elsewhere", "url": f"http://scoring.{NAMESPACE}:8000", "weight": 100, "mode": "live",
               "deadlineMilliseconds": 10_000},
}  # fmt: skip


@pytest.fixture(scope="module")
def traced(environment: Environment) -> Iterator[Environment]:
    """A scoring pod of its own that traces only what continues a trace, for clients without a key."""
    delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"]
    environment.kubectl("default", *delete)
    experiment = environment.registry.create_experiment(f"traces-{environment.run_id}-{secrets.token_hex(4)}")
    try:
        environment.kubectl("default", "create", "namespace", NAMESPACE)
        environment.kubectl(NAMESPACE, "create", "configmap", "scoring-route",
                            f"--from-literal=route.json={json.dumps(ROUTE)}")  # fmt: skip
        environment.kubectl(NAMESPACE, "create", "secret", "generic", "receiver",
                            f"--from-literal=headers=x-mlflow-experiment-id={experiment}")  # fmt: skip
        environment.helm_install(
            "api", NAMESPACE, f"--set=model.name={RELEASE}", f"--set=ingress.host={HOST}", "--set=replicas=1",
            "--set=access.mode=none", "--set=resources.requests.cpu=20m", "--set=auditLog=true",
            f"--set=tracing.endpoint=http://mlflow.{environment.stack.namespace}:5000/v1/traces",
            "--set=tracing.ratio=0", "--set=tracing.headersSecret=receiver",
        )  # fmt: skip
        environment.kubectl(NAMESPACE, "rollout", "status", "deployment/scoring", "--timeout=240s")
        wait_for("the ingress", lambda: _problem(environment), timeout_seconds=60)
        yield environment
    finally:
        environment.kubectl("default", *delete, "--wait=false")


def send(environment: Environment, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    """Send a request to the ingress; return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", environment.stack.cluster.ports.http, timeout=20)
    try:
        connection.request(method, path, body, {"Host": HOST, "Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_trace_leads_from_the_ingress_to_both_pods(traced: Environment) -> None:
    applicant = json.dumps(json.loads(send(traced, "GET", "/v1/model")[1])["contract"]["reference_applicant"])
    trace = secrets.token_hex(16)
    status, _ = send(traced, "POST", "/v1/score", applicant, traceparent=f"00-{trace}-{PARENT}-01")
    assert status == 200
    # The second decoding and scoring are those of the fallback.
    wanted = sorted([REQUEST, "canary", REQUEST, "decode", "score", "decode", "score"])
    found: list[Span] = []

    def missing() -> str | None:
        nonlocal found
        try:
            found = traced.registry.get_trace(f"tr-{trace}", display=False).data.spans
        except MlflowException as error:
            return str(error)
        names = sorted(span.name for span in found)
        return None if names == wanted else f"there are {names}"

    wait_for("the spans in MLflow", missing, timeout_seconds=60)
    (canary,) = [span for span in found if span.name == "canary"]
    assert canary.attributes["creditrisk.canary.outcome"] == "wrong-version"
    (second,) = [span for span in found if span.name == REQUEST and span.parent_id == canary.span_id]
    (first,) = [span for span in found if span.span_id == canary.parent_id]
    assert first.name == REQUEST
    assert {span.name for span in found if span.parent_id == second.span_id} == {"decode", "score"}
    assert (first.attributes["creditrisk.role"], second.attributes["creditrisk.role"]) == ("fall-back", "canary")
    lines = traced.kubectl(NAMESPACE, "logs", "deployment/scoring", "--container=scorer").splitlines()
    audited = [json.loads(line) for line in lines if line.startswith('{"audit"')]
    assert {line["span_id"] for line in audited if line["trace_id"] == trace} == {first.span_id, second.span_id}


def _problem(environment: Environment) -> str | None:
    status, _ = send(environment, "GET", "/v1/model")
    return None if status == 200 else f"it answers {status}"
