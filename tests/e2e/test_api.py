"""The scoring service on a real cluster, through the ingress: restarts under load, access control, TLS, shutdown."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import json
import secrets
import socket
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from localcluster.console import wait_for
from localcluster.stack import CHART, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(autouse=True)
def settled(stack: Stack) -> None:
    """Each test starts while no rollout is in progress: all stable pods serve one version, and none is terminating."""
    _settle(stack)


@pytest.fixture(scope="module")
def applicant(stack: Stack) -> bytes:
    return json.dumps(stack.get("/v1/model")["contract"]["reference_applicant"]).encode()


class KeepAliveClients:
    """Clients that send one request after another over open connections until the block ends, without retries."""

    def __init__(self, stack: Stack, body: bytes, clients: int = 4) -> None:
        self.outcomes: Counter[object] = Counter()
        self._stack, self._body, self._stop = stack, body, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> KeepAliveClients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        """Wait until this many more requests have ended."""
        wanted = self.outcomes.total() + count

        def missing() -> str | None:
            found = self.outcomes.total()
            return None if found >= wanted else f"{wanted - found} more are due"

        wait_for("the clients' answers", missing, timeout_seconds=120)

    def _run(self) -> None:
        headers = {"Content-Type": "application/json", "Host": self._stack.host}
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.cluster.ports.http, timeout=20)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v1/score", self._body, headers)
                answer = connection.getresponse()
                answer.read()
                self.outcomes[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[f"{type(error).__name__}: {error}"] += 1
                connection.close()
            time.sleep(0.02)


def test_a_rolling_restart_under_load_costs_no_request(stack: Stack, applicant: bytes) -> None:
    before = set(pods(stack))
    with KeepAliveClients(stack, applicant) as clients:
        clients.wait_for_answers(100)
        stack.kubectl("rollout", "restart", "deployment/scoring")
        stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=300s")
        _settle(stack)
        assert not before & set(pods(stack))
        clients.wait_for_answers(100)
    assert set(clients.outcomes) == {200}
    assert clients.outcomes[200] > 200


def test_a_pod_that_receives_sigterm_exits_with_0(stack: Stack) -> None:
    pod = pods(stack)[0]
    stack.kubectl("exec", pod, "--", "sh", "-c", "kill -TERM 1")
    deadline = time.monotonic() + 90
    while not (ended := _last_termination(stack, pod)) and time.monotonic() < deadline:
        time.sleep(1)
    assert ended.get("exitCode") == 0
    assert ended.get("reason") == "Completed"
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")


def test_a_worse_credit_score_never_lowers_its_contribution(stack: Stack, loans: list[dict[str, Any]]) -> None:
    for loan in loans[:10]:
        # By version: during a rollout two of them answer.
        found: defaultdict[str, list[float]] = defaultdict(list)
        for score in range(800, 399, -50):
            answer = stack.post("/v1/score?reasons=1", {**loan, "credit_score": score})
            parts = {part["feature"]: part["contribution"] for part in answer["audit"]["contributions"]}
            found[answer["model"]["version"]].append(parts["credit_score"])
        for contributions in found.values():
            assert contributions == sorted(contributions), loan


def test_an_arrow_table_is_scored_and_one_that_needs_too_much_memory_restarts_no_pod(
    stack: Stack, loans: list[dict[str, Any]]
) -> None:
    restarts_before = restarts(stack)
    oversized = pa.table(
        {"gender": pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * 5_000_000])}
    )
    assert post_table(stack, oversized)[0] == 422
    status, answer = post_table(stack, pa.Table.from_pylist(loans))
    assert status == 200
    scored = pa.ipc.open_stream(answer).read_all()
    version, answered = scored.schema.metadata[b"model_version"].decode(), scored.column("probability_of_default")
    singles = [stack.post("/v1/score", loan) for loan in loans]
    # During a rollout another version may answer some of them.
    same = [row for row, single in enumerate(singles) if single["model"]["version"] == version]
    assert same
    assert [answered[row].as_py() for row in same] == pytest.approx(
        [singles[row]["probability_of_default"] for row in same], abs=1e-6
    )
    # A rollout may replace pods; none of those that are still there was restarted.
    still = restarts(stack)
    assert still.keys() & restarts_before.keys()
    assert all(count == restarts_before.get(pod, 0) for pod, count in still.items())


def post_table(stack: Stack, table: pa.Table) -> tuple[int, bytes]:
    """Score a table through the ingress; return the status and the body."""
    body = io.BytesIO()
    with pa.ipc.new_stream(body, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    headers = {"Content-Type": "application/vnd.apache.arrow.stream", "Host": stack.host}
    connection = http.client.HTTPConnection("127.0.0.1", stack.cluster.ports.http, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/score/batch", body.getvalue(), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def restarts(stack: Stack) -> dict[str, int]:
    """Return how often each pod's container was restarted."""
    found = json.loads(stack.kubectl("get", "pods", "-l", "app.kubernetes.io/name=api", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}


@pytest.fixture
def api_key(stack: Stack) -> Iterator[str]:
    """The key of the first client of a service that requires API keys; at the end it requires none again."""
    _set_access(stack, "apiKeys")
    yield base64.b64decode(stack.kubectl("get", "secret", "scoring-api-key", "-o", "jsonpath={.data.key}")).decode()
    _set_access(stack, "none")


def test_api_keys_are_required_helm_test_has_one_and_a_new_one_needs_no_restart(
    stack: Stack, applicant: bytes, api_key: str
) -> None:
    assert score(stack, applicant)[0] == 401
    assert "Bearer" in score(stack, applicant)[1]["WWW-Authenticate"]
    assert score(stack, applicant, "wrong")[0] == 401
    assert score(stack, applicant, api_key)[0] == 200
    stack.helm("test", "credit-risk", "--namespace", stack.namespace, "--timeout", "2m")

    key, before = secrets.token_hex(32), pods(stack)
    entry = {"stringData": {"lending-app": hashlib.sha256(key.encode()).hexdigest()}}
    stack.kubectl("patch", "secret", "scoring-access", "--type=merge", "-p", json.dumps(entry))
    # The kubelet syncs a pod's volumes at once when the pod changes, and otherwise within a minute and a half.
    for pod in before:
        stack.kubectl("annotate", "pod", pod, f"creditrisk.io/nudge={time.time_ns()}", "--overwrite")
    deadline, accepted = time.monotonic() + 150, 0
    while accepted < 10 and time.monotonic() < deadline:
        accepted = accepted + 1 if score(stack, applicant, key)[0] == 200 else 0
        time.sleep(0.3)
    assert accepted == 10
    assert pods(stack) == before
    assert score(stack, applicant, api_key)[0] == 200
    for pod in before:
        assert key not in (log := stack.kubectl("logs", pod))
        assert api_key not in log


@pytest.fixture
def certificate(tmp_path: Path, stack: Stack) -> Path:
    """A self-signed certificate for the stack's host, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "credit-risk")]), datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(stack.host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "tls.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    (tmp_path / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tmp_path / "tls.crt"


@pytest.fixture
def tls_context(stack: Stack, certificate: Path) -> Iterator[ssl.SSLContext]:
    """A context that trusts the certificate, which values give to the ingress; without it again at the end."""
    stack.kubectl(
        "create", "secret", "tls", "score-tls", f"--cert={certificate}", f"--key={certificate.with_suffix('.key')}"
    )
    _set_tls(stack, [{"hosts": [stack.host], "secretName": "score-tls"}], routed="true")
    yield ssl.create_default_context(cafile=str(certificate))
    _set_tls(stack, [], routed="false")
    stack.kubectl("delete", "secret", "score-tls")


def test_the_ingress_terminates_tls_with_the_certificate_from_the_values(
    stack: Stack, applicant: bytes, tls_context: ssl.SSLContext
) -> None:
    deadline = time.monotonic() + 60
    while (answered := score_over_tls(stack, applicant, tls_context)) != 200 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert answered == 200
    assert "self-signed certificate" in str(score_over_tls(stack, applicant, ssl.create_default_context()))


def score_over_tls(stack: Stack, body: bytes, trusted: ssl.SSLContext) -> int | OSError:
    """Score a body through the ingress over TLS; return the status, or the error if no answer came."""
    with contextlib.closing(http.client.HTTPSConnection(stack.host, timeout=20)) as connection:
        try:
            plain = socket.create_connection(("127.0.0.1", stack.cluster.ports.http), timeout=20)
            connection.sock = trusted.wrap_socket(plain, server_hostname=stack.host)
            connection.request("POST", "/v1/score", body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except OSError as error:
            return error


def _set_tls(stack: Stack, tls: list[dict[str, object]], *, routed: str) -> None:
    # The stack's Traefik has one entry point for both; elsewhere its TLS entry point needs no annotation.
    annotation = r"api.ingress.annotations.traefik\.ingress\.kubernetes\.io/router\.tls"
    options = [f"--set-string={annotation}={routed}", f"--set-json=api.ingress.tls={json.dumps(tls)}"]
    stack.helm("upgrade", "credit-risk", str(CHART), "--namespace", stack.namespace, "--reuse-values", *options)


def score(stack: Stack, body: bytes, key: str = "") -> tuple[int, http.client.HTTPMessage]:
    """Score a body through the ingress; return the status and the headers."""
    headers = {"Content-Type": "application/json", "Host": stack.host}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection("127.0.0.1", stack.cluster.ports.http, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/score", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers


def pods(stack: Stack) -> list[str]:
    selector = "app.kubernetes.io/name=api,creditrisk.io/track=stable"
    return stack.kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split()


def _set_access(stack: Stack, mode: str) -> None:
    options = ["--namespace", stack.namespace, "--reuse-values", f"--set=api.access.mode={mode}"]
    stack.helm("upgrade", "credit-risk", str(CHART), *options)
    _settle(stack)


def _settle(stack: Stack) -> None:
    """Wait until the rollout of the stable Deployment is complete and its old pods are gone.

    Raises:
        ClusterError: They are not within five and two minutes.
    """
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=300s")

    def leftover() -> str | None:
        replicas = stack.kubectl("get", "deployment/scoring", "-o", "jsonpath={.spec.replicas}")
        found = pods(stack)
        return None if len(found) == int(replicas) else f"{len(found)} pods for {replicas} replicas: {found}"

    wait_for("the end of old scoring pods", leftover, timeout_seconds=120)


def _last_termination(stack: Stack, pod: str) -> dict[str, Any]:
    found = json.loads(stack.kubectl("get", "pod", pod, "-o", "json"))["status"]["containerStatuses"][0]
    ended: dict[str, Any] = found["lastState"].get("terminated") or {}
    return ended
