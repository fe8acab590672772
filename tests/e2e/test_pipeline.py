"""The whole pipeline on a real cluster: data in the object store, training, registry, scoring through the ingress."""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
import urllib.error
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime as ort
import pytest

from e2e.pods import management
from e2e.registry_client import registry_client
from localcluster.console import ClusterError, output, wait_for
from localcluster.embedded.cluster import EmbeddedCluster
from localcluster.stack import CHART, Stack
from promoter.adapters.artifact_volume import MOUNT_PATH, VOLUME
from trainer.data.declaration import BUILT_IN_DECLARATION, load_declaration

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NAME = "credit-risk"
DECLARATION = load_declaration(BUILT_IN_DECLARATION)


def test_the_service_scores_exactly_like_the_onnx_model(
    stack: Stack, loans: list[dict[str, Any]], tmp_path: Path
) -> None:
    with registry_client(stack) as client:
        version = client.get_model_version_by_alias(NAME, "production")
        folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version.version}", dst_path=str(tmp_path))
    session = ort.InferenceSession(str(Path(folder) / "model.onnx"))
    numeric = np.array([[loan[f.name] for f in DECLARATION.numeric] for loan in loans], np.float32)
    codes = np.array([[f.categories.index(loan[f.name]) for f in DECLARATION.categorical] for loan in loans], np.int64)
    (expected,) = session.run(["probability_of_default"], {"numeric": numeric, "categorical": codes})
    answers = [stack.post("/v1/score", loan) for loan in loans]
    assert {answer["model"]["version"] for answer in answers} == {version.version}
    np.testing.assert_allclose([answer["probability_of_default"] for answer in answers], expected, atol=1e-6)


def test_the_ingress_spreads_requests_over_both_pods(stack: Stack, loans: list[dict[str, Any]]) -> None:
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")
    # The ingress controller learns a moment later that a pod became ready, or that one ends.
    deadline, answered_by = time.monotonic() + 60, set[str]()
    while len(answered_by) != 2 and time.monotonic() < deadline:
        answered_by = {stack.post("/v1/score", loans[0])["served_by"] for _ in range(40)}
    assert len(answered_by) == 2


def test_the_production_model_meets_its_quality_targets_and_its_run_is_tracked(stack: Stack) -> None:
    with registry_client(stack) as client:
        version = client.get_model_version_by_alias(NAME, "production")
        assert version.current_stage == "Production"
        run = client.get_run(str(version.run_id))
    assert run.data.metrics["test_roc_auc"] > 0.85
    assert run.data.metrics["test_ece"] < 0.05
    assert len(version.tags["sha256.model.onnx"]) == 64
    assert run.data.params["data"].startswith("s3://data/")


def test_an_invalid_field_is_refused_through_the_ingress(stack: Stack, loans: list[dict[str, Any]]) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        stack.post("/v1/score", {**loans[0], "gender": "Robot"})
    assert caught.value.code == 422
    assert json.load(caught.value)["errors"][0]["field"] == "gender"


def test_the_management_port_is_not_reachable_through_the_ingress(stack: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        stack.get("/metrics")
    assert caught.value.code == 404


def test_helm_test_scores_a_loan(stack: Stack) -> None:
    command = [str(stack.cluster.paths.tools / "helm"), "test", "credit-risk", "--namespace", stack.namespace]
    report = output([*command, "--timeout", "2m", "--logs"], env=stack.environment())
    assert re.search(r"Phase:\s+Succeeded", report), report
    assert '"probability_of_default": 0.' in report


def test_kubectl_exec_enters_a_pod(stack: Stack) -> None:
    assert stack.kubectl("exec", "deployment/mlflow", "--container=mlflow", "--", "id", "-u").strip() == "10001"


def test_an_upgrade_keeps_credentials_and_the_training_job(stack: Stack) -> None:
    before = stack.kubectl("get", "secret", "postgres-credentials", "s3-credentials", "-o", "jsonpath={.items[*].data}")
    (job,) = stack.jobs()
    stack.helm("upgrade", "credit-risk", str(CHART), "--namespace", stack.namespace, "--reuse-values")
    after = stack.kubectl("get", "secret", "postgres-credentials", "s3-credentials", "-o", "jsonpath={.items[*].data}")
    assert after == before
    assert stack.jobs() == [job]


def test_no_log_contains_the_database_password(stack: Stack) -> None:
    encoded = json.loads(stack.kubectl("get", "secret", "postgres-credentials", "-o", "jsonpath={.data}"))["password"]
    password = base64.b64decode(encoded).decode()
    for target in ("deployment/mlflow", "statefulset/postgres", f"job/{stack.jobs()[0]}"):
        assert password not in stack.kubectl("logs", target, "--all-containers")


@pytest.mark.soak
def test_restarted_servers_keep_their_data_and_scoring_never_stops(stack: Stack, loans: list[dict[str, Any]]) -> None:
    with registry_client(stack) as client:
        before = [(v.version, v.run_id, v.tags["sha256.model.onnx"]) for v in client.search_model_versions()]
    s3 = "seaweedfs" if isinstance(stack.cluster, EmbeddedCluster) else "minio"
    stack.kubectl("delete", "pod", "postgres-0", f"{s3}-0", "--wait=true")
    stack.kubectl("delete", "pod", "-l", "app.kubernetes.io/name=mlflow", "--wait=true")
    assert stack.post("/v1/score", loans[0])["model"]["name"] == NAME
    for target in ("statefulset/postgres", f"statefulset/{s3}", "deployment/mlflow"):
        stack.kubectl("rollout", "status", target, "--timeout=180s")
    with registry_client(stack) as client:
        assert [(v.version, v.run_id, v.tags["sha256.model.onnx"]) for v in client.search_model_versions()] == before
        version = client.get_model_version_by_alias(NAME, "production").version
        contract = mlflow.artifacts.load_dict(f"models:/{NAME}/{version}/contract.json")
    assert contract["format_version"] == 4


def test_a_new_pod_waits_for_the_registry_and_reports_why(stack: Stack) -> None:
    _without_artifact_copy(stack)
    stack.kubectl("scale", "deployment/mlflow", "--replicas=0")
    stack.kubectl("wait", "pod", "-l", "app.kubernetes.io/name=mlflow", "--for=delete", "--timeout=120s")
    before = _scoring_pods(stack)
    try:
        stack.kubectl("scale", "deployment/scoring", "--replicas=3")
        deadline = time.monotonic() + 60
        while not (created := _scoring_pods(stack) - before) and time.monotonic() < deadline:
            time.sleep(1)
        (pod,) = created
        while "registry-unavailable" not in (seen := _readiness(stack, pod)) and time.monotonic() < deadline:
            time.sleep(1)
        assert "registry-unavailable" in seen
        assert "http://mlflow:5000" in stack.kubectl("logs", pod)
        assert _ready(stack, pod) == "False"
        assert stack.get("/v1/model")["name"] == NAME
    finally:
        # Whatever happens here, the tests after this one need the registry.
        stack.kubectl("scale", "deployment/mlflow", "--replicas=1")
        stack.kubectl("rollout", "status", "deployment/mlflow", "--timeout=180s")
    stack.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=180s")
    stack.kubectl("scale", "deployment/scoring", "--replicas=2")


def _without_artifact_copy(stack: Stack) -> None:
    """Let new pods load their version from the registry alone.

    A ModelPromotion that managed the Deployment leaves the volume with the version's files in its pod template. The
    ConfigMaps go with the ModelPromotion, but the kubelet keeps immutable ones while a running pod mounts them, so new
    pods on the same node would still start from them.
    """
    remove = [{"$patch": "delete", "name": VOLUME}]
    unmount = [{"name": "scorer", "volumeMounts": [{"$patch": "delete", "mountPath": MOUNT_PATH}]}]
    patch = {"spec": {"template": {"spec": {"volumes": remove, "containers": unmount}}}}
    stack.kubectl("patch", "deployment/scoring", "--patch", json.dumps(patch))
    stack.kubectl("rollout", "status", "deployment/scoring", "--timeout=120s")

    def too_many() -> str | None:
        return None if len(pods := _scoring_pods(stack)) == 2 else f"pods: {', '.join(sorted(pods))}"

    wait_for("the end of the old pods", too_many, timeout_seconds=120)


def _scoring_pods(stack: Stack) -> set[str]:
    names = "jsonpath={.items[*].metadata.name}"
    return set(stack.kubectl("get", "pods", "-l", "app.kubernetes.io/name=api", "-o", names).split())


def _readiness(stack: Stack, pod: str) -> str:
    """Return what a pod's readiness probe is answered, "" before the pod's container has started."""
    try:
        return management(stack, pod, "/readyz")[1]
    except (ClusterError, OSError, http.client.HTTPException):
        return ""


def _ready(stack: Stack, pod: str) -> str:
    return stack.kubectl("get", "pod", pod, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
