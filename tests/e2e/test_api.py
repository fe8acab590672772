"""The scoring service on a real cluster, through the ingress: restarts under load, access, and how a pod ends."""

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
from collections import Counter
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

from localcluster.stack import CHART, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def applicant(stack: Stack) -> bytes:
    return json.dumps(stack.get("/v1/model")["contract"]["reference_applicant"]).encode()


class Load:
    """Clients that score over kept connections until told to stop, and never try a request again."""

    def __init__(self, stack: Stack, body: bytes, clients: int = 4) -> None:
        self.outcomes: Counter[object] = Counter()
        self._stack, self._body, self._stop = stack, body, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

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
    with Load(stack, applicant) as load:
        time.sleep(2)
        stack.kubectl("rollout", "restart", "deployment/scoring")
        stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=300s")
        while before & set(pods(stack)):
            time.sleep(1)
        time.sleep(2)
    assert set(load.outcomes) == {200}
    assert load.outcomes[200] > 200


def test_a_pod_that_is_told_to_stop_exits_with_0(stack: Stack) -> None:
    pod = pods(stack)[0]
    stack.kubectl("exec", pod, "--", "sh", "-c", "kill -TERM 1")
    deadline = time.monotonic() + 90
    while not (ended := _last_end(stack, pod)) and time.monotonic() < deadline:
        time.sleep(1)
    assert ended.get("exitCode") == 0
    assert ended.get("reason") == "Completed"
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")


def test_a_worse_credit_score_never_lowers_its_contribution(stack: Stack, loans: list[dict[str, Any]]) -> None:
    for loan in loans[:10]:
        found = []
        for score in range(800, 399, -50):
            audit = stack.post("/v1/score?reasons=1", {**loan, "credit_score": score})["audit"]
            found += [part["contribution"] for part in audit["contributions"] if part["feature"] == "credit_score"]
        assert found == sorted(found), loan


def test_a_table_is_read_in_a_pod_and_one_that_takes_too_much_memory_harms_nobody(
    stack: Stack, loans: list[dict[str, Any]]
) -> None:
    pods_before = restarts(stack)
    endless = pa.table(
        {"gender": pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * 5_000_000])}
    )
    assert post_table(stack, endless)[0] == 422
    status, answer = post_table(stack, pa.Table.from_pylist(loans))
    assert status == 200
    answered = pa.ipc.open_stream(answer).read_all().column("probability_of_default").to_pylist()
    assert answered == pytest.approx(
        [stack.post("/v1/score", loan)["probability_of_default"] for loan in loans], abs=1e-6
    )
    assert restarts(stack) == pods_before


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
    """Return how often each pod's container was started again."""
    found = json.loads(stack.kubectl("get", "pods", "-l", "app.kubernetes.io/name=api", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}


@pytest.fixture
def guarded(stack: Stack) -> Iterator[str]:
    """The service with API keys, and the key of its first client; open again at the end."""
    _set_access(stack, "apiKeys")
    yield base64.b64decode(stack.kubectl("get", "secret", "scoring-api-key", "-o", "jsonpath={.data.key}")).decode()
    _set_access(stack, "none")


def test_keys_open_the_service_come_without_a_restart_and_helm_test_has_one(
    stack: Stack, applicant: bytes, guarded: str
) -> None:
    assert ask(stack, applicant)[0] == 401
    assert "Bearer" in ask(stack, applicant)[1]["WWW-Authenticate"]
    assert ask(stack, applicant, "wrong")[0] == 401
    assert ask(stack, applicant, guarded)[0] == 200
    stack.helm("test", "credit-risk", "--namespace", stack.namespace, "--timeout", "2m")

    key, before = secrets.token_hex(32), pods(stack)
    entry = {"stringData": {"lending-app": hashlib.sha256(key.encode()).hexdigest()}}
    stack.kubectl("patch", "secret", "scoring-access", "--type=merge", "-p", json.dumps(entry))
    # The kubelet looks at a pod at once when something about it changes, and else within a minute and a half.
    for pod in before:
        stack.kubectl("annotate", "pod", pod, f"creditrisk.io/nudge={time.time_ns()}", "--overwrite")
    deadline, seen = time.monotonic() + 150, 0
    while seen < 10 and time.monotonic() < deadline:
        seen = seen + 1 if ask(stack, applicant, key)[0] == 200 else 0
        time.sleep(0.3)
    assert seen == 10
    assert pods(stack) == before
    assert ask(stack, applicant, guarded)[0] == 200
    for pod in before:
        assert key not in (log := stack.kubectl("logs", pod))
        assert guarded not in log


@pytest.fixture
def certificate(tmp_path: Path, stack: Stack) -> Path:
    """A certificate for the stack's host that nobody else has signed, with its key beside it."""
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
def over_tls(stack: Stack, certificate: Path) -> Iterator[ssl.SSLContext]:
    """The ingress with the certificate, by values alone; as it was at the end."""
    stack.kubectl(
        "create", "secret", "tls", "score-tls", f"--cert={certificate}", f"--key={certificate.with_suffix('.key')}"
    )
    _set_tls(stack, [{"hosts": [stack.host], "secretName": "score-tls"}], routed="true")
    yield ssl.create_default_context(cafile=str(certificate))
    _set_tls(stack, [], routed="false")
    stack.kubectl("delete", "secret", "score-tls")


def test_the_ingress_ends_tls_with_the_certificate_of_the_values(
    stack: Stack, applicant: bytes, over_tls: ssl.SSLContext
) -> None:
    deadline = time.monotonic() + 60
    while (answered := ask_over_tls(stack, applicant, over_tls)) != 200 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert answered == 200
    assert "self-signed certificate" in str(ask_over_tls(stack, applicant, ssl.create_default_context()))


def ask_over_tls(stack: Stack, body: bytes, trusted: ssl.SSLContext) -> int | OSError:
    """Score a body through the ingress over TLS; return the status, or what kept it from coming."""
    with contextlib.closing(http.client.HTTPSConnection(stack.host, timeout=20)) as connection:
        try:
            plain = socket.create_connection(("127.0.0.1", stack.cluster.ports.http), timeout=20)
            connection.sock = trusted.wrap_socket(plain, server_hostname=stack.host)
            connection.request("POST", "/v1/score", body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except OSError as error:
            return error


def _set_tls(stack: Stack, tls: list[dict[str, object]], *, routed: str) -> None:
    # The stack's Traefik has one door for both; elsewhere its TLS entry point says by itself what this one is told.
    annotation = r"api.ingress.annotations.traefik\.ingress\.kubernetes\.io/router\.tls"
    options = [f"--set-string={annotation}={routed}", f"--set-json=api.ingress.tls={json.dumps(tls)}"]
    stack.helm("upgrade", "credit-risk", str(CHART), "--namespace", stack.namespace, "--reuse-values", *options)


def ask(stack: Stack, body: bytes, key: str = "") -> tuple[int, http.client.HTTPMessage]:
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
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=300s")
    deadline = time.monotonic() + 60
    while len(pods(stack)) > 2 and time.monotonic() < deadline:
        time.sleep(1)


def _last_end(stack: Stack, pod: str) -> dict[str, Any]:
    found = json.loads(stack.kubectl("get", "pod", pod, "-o", "json"))["status"]["containerStatuses"][0]
    ended: dict[str, Any] = found["lastState"].get("terminated") or {}
    return ended
