"""The canary's Deployment and Service: the stable pods' template with another version and labels of its own."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from promoter.adapters.artifact_volume import with_volume, without_volume
from promoter.adapters.owner import owner_reference
from promoter.api.resource import GROUP, VERSION_ANNOTATION, Owner, canary_name
from promoter.decision.actions import ApplyCanary

Document = dict[str, Any]
TEMPLATE_ANNOTATION = f"{GROUP}/stable-template"
TRACK_LABEL = f"{GROUP}/track"


def template_digest(deployment: Document) -> str:
    """Return a digest that identifies a pod template regardless of the version it serves."""
    template = without_volume(deployment["spec"]["template"])
    (template.get("metadata", {}).get("annotations") or {}).pop(VERSION_ANNOTATION, None)
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def canary_labels(deployment: Document) -> Document:
    """Return the stable pods' labels, changed so that the stable Deployment and Service do not select canary pods.

    If the Deployment selects by `creditrisk.io/track`, only that label changes, and network policies keep applying;
    otherwise the first label that it selects by gets another value.
    """
    labels = dict(deployment["spec"]["template"]["metadata"]["labels"])
    selected = deployment["spec"]["selector"]["matchLabels"]
    if TRACK_LABEL not in selected:
        key = "app.kubernetes.io/name" if "app.kubernetes.io/name" in selected else min(selected)
        labels[key] = f"{labels[key]}-canary"[:63]
    return {**labels, TRACK_LABEL: "canary"}


def canary_deployment(owner: Owner, stable: Document, canary: ApplyCanary) -> Document:
    """Return the canary's Deployment."""
    template = with_volume(stable["spec"]["template"], canary.config_maps, scoring_container(stable))
    labels = canary_labels(stable)
    template["metadata"] = {
        "labels": labels,
        "annotations": {**(template["metadata"].get("annotations") or {}), VERSION_ANNOTATION: canary.version},
    }
    name = canary_name(stable["metadata"]["name"])
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels,
            "annotations": {TEMPLATE_ANNOTATION: template_digest(stable)},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {
            "replicas": canary.replicas,
            "selector": {"matchLabels": _selector(stable, labels)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def canary_service(owner: Owner, stable: Document) -> Document:
    """Return the Service through which stable pods reach the canary."""
    labels = canary_labels(stable)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": canary_name(stable["metadata"]["name"]),
            "namespace": owner.namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": {
            "selector": _selector(stable, labels),
            # With the protocol: old API servers do not default it in a server-side apply.
            "ports": [
                {"name": "http", "port": 8000, "protocol": "TCP", "targetPort": container_port(stable, {"http"}, 8000)}
            ],
        },
    }


def container_port(deployment: Document, names: set[str], default: int) -> int:
    """Return the number of the first container port with one of these names."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for port in container.get("ports", []):
            if port.get("name") in names:
                return int(port["containerPort"])
    return default


def scoring_container(deployment: Document) -> str:
    """Return the name of the container that serves: the first with a port named http, else the first."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    serving = (c for c in containers if any(port.get("name") == "http" for port in c.get("ports", [])))
    return str(next(serving, containers[0])["name"])


def _selector(stable: Document, labels: Document) -> Document:
    return {key: labels[key] for key in (*stable["spec"]["selector"]["matchLabels"], TRACK_LABEL)}
