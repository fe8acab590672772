"""The example for Kubeflow Trainer: fields of its resources, a valid Job, and arguments that the trainer takes."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from conftest import REPOSITORY
from trainer.settings import parse

# Of trainer.kubeflow.org/v1alpha1 in Kubeflow Trainer 2.2, what the example may use; its definition is not in a
# package.
RUNTIME_FIELDS = {"mlPolicy", "podGroupPolicy", "template"}
JOB_FIELDS = {"runtimeRef", "initializer", "trainer", "labels", "annotations", "runtimePatches", "suspend", "managedBy",
              "activeDeadlineSeconds"}  # fmt: skip
TRAINER_FIELDS = {"image", "command", "args", "env", "numNodes", "resourcesPerNode", "numProcPerNode"}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    text = (REPOSITORY / "manifests/trainjob.yaml").read_text("utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_the_example_has_fields_of_its_resources(documents: dict[str, dict[str, Any]]) -> None:
    runtime, job = documents["TrainingRuntime"], documents["TrainJob"]
    assert {runtime["apiVersion"], job["apiVersion"]} == {"trainer.kubeflow.org/v1alpha1"}
    assert set(runtime["spec"]) <= RUNTIME_FIELDS
    # How many processes a pod has is the TrainJob's alone since 2.2.
    assert runtime["spec"]["mlPolicy"]["torch"] == {}
    assert set(job["spec"]) <= JOB_FIELDS
    assert set(job["spec"]["trainer"]) <= TRAINER_FIELDS
    reference = job["spec"]["runtimeRef"]
    assert (reference["kind"], reference["name"]) == (runtime["kind"], runtime["metadata"]["name"])
    kubernetes_validate.validate(documents["NetworkPolicy"], "1.31", strict=True)


def test_the_job_of_the_example_is_valid_and_its_pods_are_restricted(documents: dict[str, dict[str, Any]]) -> None:
    (node,) = documents["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    # Trainer and JobSet look for these.
    assert node["name"] == "node"
    assert node["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    spec = node["template"]["spec"]
    kubernetes_validate.validate(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec}, "1.31", strict=True
    )
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "node"
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": {"containerName": "node", "operator": "In", "values": [2, 3]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_trainer_takes_the_arguments_with_the_variables_that_kubeflow_sets(
    documents: dict[str, dict[str, Any]],
) -> None:
    given = documents["TrainJob"]["spec"]["trainer"]
    assert given["command"] == ["python", "-m", "trainer"]
    values = {
        "PET_NNODES": str(given["numNodes"]),
        "PET_NPROC_PER_NODE": str(given["numProcPerNode"]),
        "PET_MASTER_ADDR": "credit-risk-node-0-0.credit-risk",
        "PET_MASTER_PORT": "29400",
    }
    arguments = given["args"]
    for name, value in values.items():
        arguments = [argument.replace(f"$({name})", value) for argument in arguments]
    environment = {entry["name"]: entry["value"] for entry in given["env"] if "value" in entry}
    settings = parse(arguments, {**environment, "JOB_COMPLETION_INDEX": "1"})
    assert (settings.pods, settings.processes, settings.worker) == (2, 1, 1)
    assert settings.rendezvous == "credit-risk-node-0-0.credit-risk:29400"
    (node,) = documents["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"]
    mounts = node["template"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(settings.work_dir) in {mount["mountPath"] for mount in mounts}
