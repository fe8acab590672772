"""The canary's manifests: which pod templates count as the same."""

from __future__ import annotations

import copy
from typing import Any

from promoter.adapters.artifact_volume import mounted, with_volume
from promoter.adapters.canary_manifests import canary_deployment, template_digest
from promoter.api.resource import Owner
from promoter.decision.actions import ApplyCanary

OWNER = Owner("bank", "loans", "u-1")
LABELS = {"app.kubernetes.io/name": "api", "creditrisk.io/track": "stable"}
STABLE: dict[str, Any] = {
    "metadata": {"name": "scoring"},
    "spec": {"selector": {"matchLabels": LABELS}, "template": {
        "metadata": {"labels": LABELS},
        "spec": {"containers": [{"name": "proxy"}, {"name": "scorer", "ports": [{"name": "http"}]}]},
    }},
}  # fmt: skip


def test_the_version_alone_does_not_make_another_template() -> None:
    def digest(**annotations: str) -> str:
        return template_digest({"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {}}}})

    assert digest(**{"creditrisk.io/model-version": "1"}) == digest(**{"creditrisk.io/model-version": "2"})
    assert digest(image="1") != digest(image="2")


def test_the_volume_of_the_files_does_not_make_another_template() -> None:
    with_copy = copy.deepcopy(STABLE)
    with_copy["spec"]["template"] = with_volume(STABLE["spec"]["template"], ("m-1",), "scorer")
    assert with_copy != STABLE
    assert template_digest(with_copy) == template_digest(STABLE)


def test_the_canary_mounts_the_copy_of_its_own_version_into_the_container_that_serves() -> None:
    stable = copy.deepcopy(STABLE)
    stable["spec"]["template"] = with_volume(STABLE["spec"]["template"], ("m-1",), "scorer")
    template = canary_deployment(OWNER, stable, ApplyCanary("2", 1, ("m-2-0", "m-2-1")))["spec"]["template"]
    assert mounted(template) == ("m-2-0", "m-2-1")
    assert [len(container.get("volumeMounts", [])) for container in template["spec"]["containers"]] == [0, 1]
    without = canary_deployment(OWNER, stable, ApplyCanary("2", 1))["spec"]["template"]
    assert without["spec"] == STABLE["spec"]["template"]["spec"]
    assert mounted(stable["spec"]["template"]) == ("m-1",), "the stable template was changed"
