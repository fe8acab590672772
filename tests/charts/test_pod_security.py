"""Every rendered pod is admitted by a namespace that enforces the Pod Security Standard `restricted`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from charts.pod_security import CONTAINER_CONTROLS, POD_CONTROLS, violations
from charts.rendering import SCENARIOS, Document, pod_templates, render

# What breaks one control each, as the standard describes it: a path in the pod template and a value.
BREAKS: list[tuple[str, str, Any]] = [
    ("Host Namespaces", "spec.hostNetwork", True),
    ("Volume Types", "spec.volumes", [{"name": "x", "hostPath": {"path": "/"}}]),
    ("Sysctls", "spec.securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
    ("SELinux", "spec.securityContext.seLinuxOptions", {"type": "spc_t"}),
    ("HostProcess", "spec.securityContext.windowsOptions", {"hostProcess": True}),
    ("Seccomp", "spec.securityContext.seccompProfile", {"type": "Unconfined"}),
    ("Running as Non-root user", "spec.securityContext.runAsUser", 0),
    ("AppArmor", "spec.securityContext.appArmorProfile", {"type": "Unconfined"}),
    ("AppArmor", "metadata.annotations", {"container.apparmor.security.beta.kubernetes.io/x": "unconfined"}),
    ("Privileged Containers", "container.securityContext.privileged", True),
    ("Capabilities", "container.securityContext.capabilities", {"drop": ["NET_RAW"]}),
    ("Capabilities", "container.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
    ("Host Ports", "container.ports", [{"containerPort": 80, "hostPort": 80}]),
    ("Host Probes / Lifecycle Hooks", "container.livenessProbe", {"httpGet": {"host": "10.0.0.1", "port": 80}}),
    ("SELinux", "container.securityContext.seLinuxOptions", {"user": "system_u"}),
    ("HostProcess", "container.securityContext.windowsOptions", {"hostProcess": True}),
    ("/proc Mount Type", "container.securityContext.procMount", "Unmasked"),
    ("AppArmor", "container.securityContext.appArmorProfile", {"type": "Unconfined"}),
    ("Privilege Escalation", "container.securityContext.allowPrivilegeEscalation", True),
    ("Running as Non-root", "container.securityContext.runAsNonRoot", False),
    ("Running as Non-root user", "container.securityContext.runAsUser", 0),
    ("Seccomp", "container.securityContext.seccompProfile", {"type": "Unconfined"}),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_restricted_namespace_admits_every_pod(scenario: str) -> None:
    broken = {name: violations(template) for name, template in pod_templates(render(scenario)).items()}
    assert not {name: found for name, found in broken.items() if found}


@pytest.mark.parametrize(("control", "path", "value"), BREAKS)
def test_a_pod_that_breaks_a_control_is_found(control: str, path: str, value: Any) -> None:
    template = copy.deepcopy(pod_templates(render("api/ci/default-values.yaml"))["Deployment/scoring"])
    where, *between, last = path.split(".")
    place: Document = template["spec"]["containers"][0] if where == "container" else template[where]
    for key in between:
        place = place[key]
    place[last] = value
    assert {found.partition(":")[0] for found in violations(template)} == {control}


def test_every_control_has_a_pod_that_breaks_it() -> None:
    assert {control for control, _, _ in BREAKS} == {*POD_CONTROLS, *CONTAINER_CONTROLS}
