"""The examples for operators of Spark and Ray: fields that their resources have, and pods that Kubernetes accepts.

The programs themselves run in tests/contract/test_every_way.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import kubernetes_validate
import pytest
import yaml

from conftest import REPOSITORY

EXAMPLES = ["bulk-on-spark.yaml", "bulk-on-spark-apache.yaml", "bulk-on-ray.yaml"]
# Of Kubeflow's v1beta2, Apache's v1 and KubeRay's v1, what the examples may use; their definitions are not to be had as
# a package.
FIELDS = {
    "sparkoperator.k8s.io/v1beta2": {
        "type", "pythonVersion", "mode", "sparkVersion", "image", "mainApplicationFile", "arguments",
        "timeToLiveSeconds", "restartPolicy", "driver", "executor",
    },
    "spark.apache.org/v1": {
        "pyFiles", "driverArgs", "deploymentMode", "runtimeVersions", "applicationTolerations", "sparkConf",
        "driverSpec", "executorSpec",
    },
    "ray.io/v1": {
        "entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec",
    },
}  # fmt: skip


def documents_of(example: str) -> tuple[dict[str, Any], dict[str, Any]]:
    program, application = yaml.safe_load_all((REPOSITORY / "manifests" / example).read_text())
    return program, application


def pods_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield each pod's spec in a resource."""
    if isinstance(value, Mapping):
        if "containers" in value:
            yield value
        else:
            for part in value.values():
                yield from pods_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from pods_in(part)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_has_fields_of_its_resource(example: str) -> None:
    _, application = documents_of(example)
    assert set(application["spec"]) <= FIELDS[application["apiVersion"]]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_examples_pods_are_valid_and_restricted(example: str) -> None:
    program, application = documents_of(example)
    kubernetes_validate.validate(program, "1.31", strict=True)
    pods = list(pods_in(application["spec"]))
    assert len(pods) == 2
    for pod in pods:
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod}, "1.31", strict=True
        )
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["allowPrivilegeEscalation"] is False
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_both_examples_of_spark_run_the_same_program() -> None:
    one, other = (documents_of(example)[0] for example in EXAMPLES[:2])
    assert one == other


class EngineBegunError(Exception):
    """A program has come as far as its engine."""


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put modules in the place of Spark's and Ray's that only say that they were begun."""

    def begin() -> NoReturn:
        raise EngineBegunError

    session = SimpleNamespace(builder=SimpleNamespace(getOrCreate=begin))
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", SimpleNamespace(SparkSession=session))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=begin))


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize(
    ("source", "target", "refused"),
    [
        ("s3a://bank/book", "s3a://bank/scores", False),
        ("s3a://bank/book", "s3a://bank/books", False),
        ("/data/book", "/data/scores", False),
        ("s3a://bank/book", "s3a://bank/book/", True),
        ("s3a://bank/book", "s3a://bank/book/scores", True),
        ("s3a://bank/book/*.parquet", "s3a://bank/book", True),
        ("s3a://bank/book", "s3a://bank", True),
        ("/data/book", "/data/scores/../book", True),
    ],
)
def test_an_example_deletes_no_folder_that_it_reads(
    example: str, source: str, target: str, *, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = documents_of(example)[0]["data"]["score.py"]
    monkeypatch.setattr(sys, "argv", ["score.py", source, target, "model"])
    with pytest.raises(SystemExit if refused else EngineBegunError) as raised:
        exec(compile(program, "score.py", "exec"), {})
    assert not refused or target in str(raised.value)
