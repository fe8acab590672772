"""The chart's autoscaler, by Kubernetes' own controller: pods follow the load up and down, and no request fails.

The embedded cluster and kind have no metrics server. There `metrics_api.py` takes its place for the test, and passes on
what the kubelets measure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.clients import Clients, failed
from e2e.environment import Environment
from e2e.kubernetes_api import Document
from e2e.namespace import TARGET, ScenarioNamespace
from e2e.parallel import promotion_scenario
from e2e.scenario import Scenario
from localcluster.console import say

# Seven minutes, most of them for the controller's periods.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.soak]
METRICS, NAME, PORT = "/apis/metrics.k8s.io/v1beta1", "metrics-for-tests", 8443
VERSION = "v1beta1.metrics.k8s.io"
API_SERVICE: Document = {
    "apiVersion": "apiregistration.k8s.io/v1",
    "kind": "APIService",
    "metadata": {"name": VERSION},
    "spec": {
        "service": {"name": NAME, "namespace": NAME, "port": 443},
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    },
}
PROGRAM = Path(__file__).parent / "metrics_api.py"
# A request of a tenth of a millicore per request per second or so: a few hundred a second fill several pods.
AUTOSCALED = ("--set=autoscaling.enabled=true", "--set=autoscaling.minReplicas=1", "--set=autoscaling.maxReplicas=6",
              "--set=resources.requests.cpu=10m")  # fmt: skip
# Requests per second that are added at each step of the ramp.
RAMP = (20.0, 100.0, 300.0)
FEWER_AFTER_SECONDS = 30
# Pods that the ramp needs, and that the first step does not.
GROWN = 4


@promotion_scenario(clients=False, following=False)
def test_pods_follow_the_load_up_and_down_and_no_request_fails(scenario: Scenario) -> None:
    namespace = scenario.namespace
    with metrics_api(namespace.environment):
        namespace.install_api(*AUTOSCALED)
        allow_fewer_soon(namespace)
        namespace.wait_until(
            "the autoscaler knows the pods' use of the processor", lambda: usage(namespace) is not None
        )
        namespace.wait_for_rollouts(TARGET)
        assert wanted(namespace) < GROWN
        with clients_at(scenario, RAMP[0]) as first:
            first.wait_for_answers()
            with ExitStack() as ramp:
                more = [ramp.enter_context(clients_at(scenario, rate)) for rate in RAMP[1:]]
                began = time.monotonic()
                namespace.wait_until(f"{GROWN} pods are wanted", lambda: wanted(namespace) >= GROWN)
                say(f"{wanted(namespace)} pods are wanted after {time.monotonic() - began:.0f} s")
                namespace.wait_until("as many are ready", lambda: ready_pods(namespace) >= GROWN)
                say(f"{ready_pods(namespace)} are ready after {time.monotonic() - began:.0f} s")
                answered_by_all(namespace, more[-1])
            namespace.wait_until("fewer pods are wanted", lambda: wanted(namespace) < GROWN)
            namespace.wait_until("the others have ended", lambda: ready_pods(namespace) < GROWN)
            first.wait_for_answers()
        for clients in (first, *more):
            bad = failed(clients.answers)
            assert not bad, f"{len(bad)} of {len(clients.answers)} requests failed, the first: {bad[:3]}"
    # The number of pods that the autoscaler set would be a conflict for Helm.
    namespace.reinstall()


# --- given


@contextmanager
def clients_at(scenario: Scenario, rate: float) -> Iterator[Clients]:
    """Let clients send so many requests a second for the duration of the block."""
    environment = scenario.namespace.environment
    key = environment.stack_in(scenario.namespace.name).api_key
    with Clients(environment.stack.url, scenario.namespace.host, key, environment.applications, rate) as clients:
        yield clients


def allow_fewer_soon(namespace: ScenarioNamespace) -> None:
    """Shorten the five minutes for which an autoscaler keeps its highest recommendation."""
    behavior = {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": FEWER_AFTER_SECONDS}}}}
    assert any(namespace.environment.api.patch(path, behavior) for path in autoscaler_paths(namespace))


@contextmanager
def metrics_api(environment: Environment) -> Iterator[None]:
    """Have metrics.k8s.io for the duration of the block, if the cluster does not."""
    if environment.api.get(METRICS):
        yield
        return
    objects, registration = yaml.safe_dump_all(stand_in(environment.images["api"])), yaml.safe_dump(API_SERVICE)
    # A rerun could make nothing in a namespace that is still being deleted.
    apply, delete = ["apply", "-f", "-"], ["delete", "--ignore-not-found", "--timeout=120s", "-f", "-"]
    try:
        environment.kubectl("default", *apply, text=objects)
        environment.kubectl(NAME, "rollout", "status", f"deployment/{NAME}", "--timeout=120s")
        # A registered API that does not answer would hold up the deletion of every namespace.
        environment.kubectl("default", *apply, text=registration)
        environment.kubectl("default", "wait", "--for=condition=Available", f"apiservice/{VERSION}", "--timeout=120s")
        yield
    finally:
        environment.kubectl("default", *delete, text=registration)
        environment.kubectl("default", *delete, text=objects)


def stand_in(image: str) -> list[Document]:
    """Return the objects of the stand-in, in a namespace of its own."""
    certificate, key = self_signed(f"{NAME}.{NAME}.svc")
    named: dict[str, Any] = {"name": NAME, "namespace": NAME}
    subject, rbac = {"kind": "ServiceAccount", **named}, "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
             {"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get"]}]  # fmt: skip
    files = {"metrics_api.py": PROGRAM.read_text(), "tls.crt": certificate, "tls.key": key}
    container = {
        "name": "metrics", "image": image, "ports": [{"containerPort": PORT}],
        "command": ["python", "/files/metrics_api.py", "/files/tls.crt", "/files/tls.key", str(PORT)],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
    }  # fmt: skip
    pod = {"serviceAccountName": NAME, "containers": [container],
           "volumes": [{"name": "files", "secret": {"secretName": NAME}}]}  # fmt: skip
    labels = {"app": NAME}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named},
        {"apiVersion": "v1", "kind": "Secret", "metadata": named, "stringData": files},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": NAME},
         "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME}, "subjects": [subject]},
        {"apiVersion": "v1", "kind": "Service", "metadata": named,
         "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": PORT}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named,
         "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}},
    ]  # fmt: skip


def self_signed(name: str) -> tuple[str, str]:
    """Return a certificate for a day, and its key, as PEM."""
    key, issuer = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]),
    )
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, issuer, key.public_key(), x509.random_serial_number(),
                                      now - timedelta(hours=1), now + timedelta(days=1))  # fmt: skip
    signed = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), private.decode()


# --- observed


def autoscaler_paths(namespace: ScenarioNamespace) -> list[str]:
    """Return where the autoscaler may be, the newest version of the API first."""
    name = f"namespaces/{namespace.name}/horizontalpodautoscalers/{TARGET}"
    return [f"/apis/autoscaling/{version}/{name}" for version in ("v2", "v2beta2")]


def usage(namespace: ScenarioNamespace) -> int | None:
    """Return the pods' use of the processor as the autoscaler has it, in percent of their requests."""
    found = next(filter(None, (namespace.environment.api.get(path) for path in autoscaler_paths(namespace))), {})
    # An autoscaler without a measurement has an entry without a value.
    current = [
        metric.get("resource", {}).get("current", {}) for metric in found.get("status", {}).get("currentMetrics") or ()
    ]
    return next((int(one["averageUtilization"]) for one in current if "averageUtilization" in one), None)


def wanted(namespace: ScenarioNamespace) -> int:
    """Return how many pods the Deployment wants."""
    return int(namespace.deployment(TARGET)["spec"]["replicas"])


def ready_pods(namespace: ScenarioNamespace) -> int:
    """Return how many of them are ready."""
    return int(namespace.deployment(TARGET)["status"].get("readyReplicas", 0))


def answered_by_all(namespace: ScenarioNamespace, clients: Clients) -> None:
    """Wait until as many pods as are ready have answered these clients."""
    since = time.time()
    namespace.wait_until("each of the pods answers", lambda: (
        len({answer.pod for answer in clients.since(since) if answer.pod}) >= ready_pods(namespace)
    ), detail=lambda: json.dumps(sorted({answer.pod for answer in clients.since(since)})))  # fmt: skip
