"""The service under a path prefix of a real ingress controller: scoring, pages, the OpenAPI document, and redirects."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest

from browser import assert_pages_work, chromium
from e2e.environment import Environment
from localcluster.console import wait_for
from localcluster.stack import RELEASE, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NAMESPACE, HOST, PREFIX = "path-prefix", "path-prefix.credit-risk.test", "/credit"


@pytest.fixture(scope="module")
def ingress(environment: Environment) -> Iterator[Stack]:
    """A scoring pod of its own, which the ingress controller publishes under the prefix, for clients without a key."""
    delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found"]
    environment.kubectl("default", *delete)
    try:
        environment.helm_install(
            "api", NAMESPACE, f"--set=model.name={RELEASE}", f"--set=ingress.host={HOST}",
            f"--set=ingress.path={PREFIX}", "--set=replicas=1", "--set=access.mode=none",
            "--set=resources.requests.cpu=20m",
        )  # fmt: skip
        environment.kubectl(NAMESPACE, "rollout", "status", "deployment/scoring", "--timeout=240s")
        wait_for("the ingress", lambda: _problem(environment.stack), timeout_seconds=60)
        yield environment.stack
    finally:
        environment.kubectl("default", *delete, "--wait=false")


def send(stack: Stack, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, str], str]:
    """Send a request to the ingress; return status, headers with lowercase names, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.cluster.ports.http, timeout=20)
    try:
        connection.request(method, path, body, {"Host": HOST, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def test_applications_are_scored_under_the_prefix_and_nowhere_else(ingress: Stack) -> None:
    status, _, described = send(ingress, "GET", f"{PREFIX}/v1/model")
    assert status == 200
    applicant = json.dumps(json.loads(described)["contract"]["reference_applicant"])
    status, _, answer = send(ingress, "POST", f"{PREFIX}/v1/score", applicant)
    assert status == 200
    assert 0 < json.loads(answer)["probability_of_default"] < 1
    for path in ("/v1/score", f"{PREFIX}x/v1/score", f"{PREFIX}{PREFIX}/v1/score"):
        assert send(ingress, "POST", path, applicant)[0] == 404


@pytest.mark.parametrize(("path", "target"), [("", "/"), ("?a=b", "/?a=b"), ("/v1/model/", "/v1/model")])
def test_redirects_stay_under_the_prefix(ingress: Stack, path: str, target: str) -> None:
    status, headers, _ = send(ingress, "GET", f"{PREFIX}{path}")
    assert status == 307
    public = f"https://score.example.org{PREFIX}"
    assert urljoin(f"{public}{path}", headers["location"]) == f"{public}{target}"


def test_the_openapi_document_names_the_prefix(ingress: Stack) -> None:
    document = json.loads(send(ingress, "GET", f"{PREFIX}/openapi.json")[2])
    assert document["servers"] == [{"url": PREFIX}]


def test_the_form_scores_and_the_documentation_sends_requests(ingress: Stack) -> None:
    with chromium([HOST]) as browser:
        assert_pages_work(browser, f"http://{HOST}:{ingress.cluster.ports.http}{PREFIX}")


def _problem(stack: Stack) -> str | None:
    status = send(stack, "GET", f"{PREFIX}/v1/model")[0]
    return None if status == 200 else f"it answers {status}"
