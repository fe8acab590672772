"""The controls of the Pod Security Standards, profile `restricted`, each named as Kubernetes names it.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted includes baseline). A namespace
with the label `pod-security.kubernetes.io/enforce: restricted` admits the pods that pass all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
           "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range"}  # fmt: skip
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def violations(template: Document) -> list[str]:
    """Return the controls that a pod template breaks, with the container for those of containers."""
    spec = template["spec"]
    found = [name for name, broken in POD_CONTROLS.items() if broken(spec)]
    found += [
        f"{name}: container {container['name']}"
        for container in _containers(spec)
        for name, broken in CONTAINER_CONTROLS.items()
        if broken(container, spec)
    ]
    annotations = template.get("metadata", {}).get("annotations") or {}
    if any(
        "apparmor.security.beta.kubernetes.io" in key and value == "unconfined" for key, value in annotations.items()
    ):
        found.append("AppArmor")
    return found


def _containers(spec: Document) -> Iterator[Document]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def _security(thing: Document) -> Document:
    return dict(thing.get("securityContext") or {})


def _effective(container: Document, spec: Document, field: str) -> Any:
    """Return a field of a container's security context, else the pod's."""
    return _security(container).get(field, _security(spec).get(field))


def _unsafe_selinux(thing: Document) -> bool:
    options = _security(thing).get("seLinuxOptions") or {}
    return options.get("type", "") not in SELINUX_TYPES or bool(options.get("user") or options.get("role"))


def _capabilities(container: Document) -> Document:
    return dict(_security(container).get("capabilities") or {})


POD_CONTROLS: dict[str, Callable[[Document], bool]] = {
    "Host Namespaces": lambda spec: any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")),
    "Volume Types": lambda spec: any(not set(volume) - {"name"} <= VOLUMES for volume in spec.get("volumes") or ()),
    "Sysctls": lambda spec: any(entry["name"] not in SYSCTLS for entry in _security(spec).get("sysctls") or ()),
    "SELinux": _unsafe_selinux,
    "HostProcess": lambda spec: bool((_security(spec).get("windowsOptions") or {}).get("hostProcess")),
    "Seccomp": lambda spec: (
        (_security(spec).get("seccompProfile") or {"type": "RuntimeDefault"})["type"] not in SECCOMP
    ),
    "Running as Non-root user": lambda spec: _security(spec).get("runAsUser") == 0,
    "AppArmor": lambda spec: (_security(spec).get("appArmorProfile") or {}).get("type") == "Unconfined",
}
CONTAINER_CONTROLS: dict[str, Callable[[Document, Document], bool]] = {
    "Privileged Containers": lambda container, _: bool(_security(container).get("privileged")),
    "Capabilities": lambda container, _: (
        "ALL" not in _capabilities(container).get("drop", ())
        or not set(_capabilities(container).get("add", ())) <= {"NET_BIND_SERVICE"}
    ),
    "Host Ports": lambda container, _: any(port.get("hostPort") for port in container.get("ports") or ()),
    "Host Probes / Lifecycle Hooks": lambda container, _: any(
        (handler.get(kind) or {}).get("host")
        for handler in _handlers(container)
        for kind in ("httpGet", "tcpSocket")
    ),
    "SELinux": lambda container, _: _unsafe_selinux(container),
    "HostProcess": lambda container, _: bool((_security(container).get("windowsOptions") or {}).get("hostProcess")),
    "/proc Mount Type": lambda container, _: _security(container).get("procMount", "Default") != "Default",
    "AppArmor": lambda container, _: (_security(container).get("appArmorProfile") or {}).get("type") == "Unconfined",
    "Privilege Escalation": lambda container, _: _security(container).get("allowPrivilegeEscalation") is not False,
    "Running as Non-root": lambda container, spec: _effective(container, spec, "runAsNonRoot") is not True,
    "Running as Non-root user": lambda container, _: _security(container).get("runAsUser") == 0,
    "Seccomp": lambda container, spec: (
        (_effective(container, spec, "seccompProfile") or {"type": ""})["type"] not in SECCOMP
    ),
}  # fmt: skip


def _handlers(container: Document) -> list[Document]:
    probes = [container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = [(container.get("lifecycle") or {}).get(name) for name in ("postStart", "preStop")]
    return [handler for handler in [*probes, *hooks] if handler]
