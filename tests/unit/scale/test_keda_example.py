"""The example for KEDA: fields that a ScaledObject and its Prometheus trigger have, and a metric that the pods have."""

from __future__ import annotations

import json
import re

import yaml

from conftest import REPOSITORY

# Of keda.sh/v1alpha1 and the Prometheus scaler, as KEDA documents them; its definitions are not to be had as a package.
FIELDS = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
    "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers",
}  # fmt: skip
FALLBACK = {"failureThreshold", "replicas", "behavior"}
TRIGGER = {
    "serverAddress", "query", "threshold", "activationThreshold", "namespace", "customHeaders", "ignoreNullValues",
    "queryParameters", "unsafeSsl", "timeout",
}  # fmt: skip
EXAMPLE = yaml.safe_load((REPOSITORY / "manifests" / "keda-scoring.yaml").read_text())


def test_the_example_has_no_field_that_keda_does_not_know() -> None:
    spec = EXAMPLE["spec"]
    assert (EXAMPLE["apiVersion"], EXAMPLE["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert spec.keys() <= FIELDS
    assert spec["fallback"].keys() <= FALLBACK
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"].keys() <= TRIGGER
    # KEDA takes a map of texts.
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]


def test_the_example_asks_for_a_metric_of_the_service_and_scales_its_deployment() -> None:
    listed = json.loads((REPOSITORY / "contracts" / "metrics.json").read_text())
    metrics = {metric["name"] for metric in listed["published"] if metric["part"] == "scorer"}
    (trigger,) = EXAMPLE["spec"]["triggers"]
    (asked,) = re.findall(r"scorer_\w+", trigger["metadata"]["query"])
    assert asked in metrics
    assert EXAMPLE["spec"]["scaleTargetRef"]["name"] == "scoring"
