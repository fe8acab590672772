"""Start, inspect and remove the embedded node."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import packages
from localcluster.console import ClusterError, output, run, step, wait_for
from localcluster.embedded import binaries, config, stores
from localcluster.embedded.builder import PROMETHEUS, Builder, Built
from localcluster.embedded.node import Plan
from localcluster.images import ALL, STACK, Image
from localcluster.paths import REPOSITORY, Paths
from localcluster.ports import Ports

ADDONS = REPOSITORY / "cluster" / "embedded" / "addons.yaml"
CGROUPS = Path("/sys/fs/cgroup")
OS_RELEASE = Path("/etc/os-release")
NEEDED_MEMORY_GIB = 5
NEEDED_DISK_GIB = 12
MODULE = "localcluster.embedded.node"
DEBIAN_TOOLS = ["iproute2", "iptables", "conntrack", "ethtool", "util-linux", "mount", "buildah", "mmdebstrap"]


@dataclass(frozen=True)
class EmbeddedCluster:
    """The embedded cluster of a state folder (one per machine unless CREDIT_RISK_STATE is set)."""

    paths: Paths
    ports: Ports
    name: str = "embedded"
    values: Path = REPOSITORY / "cluster" / "embedded" / "values.yaml"
    monitoring_images: tuple[Image, ...] = (PROMETHEUS,)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; it connects through a loopback port of the host."""
        return self.paths.state / "node" / "kubeconfig"

    @property
    def _socket(self) -> Path:
        return self.paths.state / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """The cgroup of all pods; its name depends on the state folder, so that two nodes can run side by side."""
        return f"credit-risk-{hashlib.sha256(str(self.paths.state).encode()).hexdigest()[:8]}"

    def running(self) -> bool:
        """Return whether the node's first process is alive."""
        return self.first_process() is not None

    def up(self) -> None:
        """Bring the cluster up unless it is Ready already; restart it if it is only partly alive.

        Raises:
            ClusterError: The message has the reason and the log to read. If the machine does not meet the requirements,
                nothing has been changed.
        """
        log = self.paths.logs / "cluster.log"
        if self.running() and self.api_problem() is None:
            return
        if not self.running():
            self._check_machine()
        self.paths.logs.mkdir(parents=True, exist_ok=True)
        with step("Install the Debian packages that the node needs", log):
            packages.apt_install(DEBIAN_TOOLS, log)
        programs = binaries.provide(self.paths)
        packages.install_tools(self.paths, log)
        self._remove_node()
        with step("Start Kubernetes", self.paths.logs / "node.log"):
            self._start(programs)
            wait_for("the API server", self.api_problem, timeout_seconds=90, log=self.paths.logs / "kube-apiserver.log")
            run([*self._kubectl(), "apply", "-f", str(ADDONS)], log)
            wait_for("the node", self._node_problem, timeout_seconds=60, log=self.paths.logs / "kubelet.log")
        self._remove_stale_images()

    def down(self) -> None:
        """Remove everything of the node except the cache; safe to call at any time."""
        self._remove_node()
        shutil.rmtree(self.paths.state, ignore_errors=True)

    def images(self, wanted: Sequence[Image] = STACK) -> dict[str, str]:
        """Build these images and the node's own unless cached, load them, and return the references by name."""
        built = Builder(self.paths).build(wanted)
        present = self._images()
        missing = [image for image in built if image.reference not in present]
        if missing:
            with step(f"Load {len(missing)} images into the node", self.paths.logs / "images.log"):
                for image in missing:
                    self._import(image)
        return {image.image.name: image.reference for image in built}

    def status(self) -> list[str]:
        """Return lines that describe which components of the node are running."""
        file = self.paths.state / "node-status.json"
        if not self.running():
            return ["embedded cluster: not running"]
        status = json.loads(file.read_text()) if file.exists() else {"running": [], "restarts": {}}
        lines = [f"embedded cluster: running ({', '.join(status['running'])})"]
        lines += [f"  {name}: restarted {count} times" for name, count in status["restarts"].items()]
        lines.append(f"  API server: {self.api_problem() or 'ready'}")
        return lines

    def _start(self, programs: binaries.Binaries) -> None:
        for cgroup in cgroup_roots():
            _make_cgroup(cgroup / self.cgroup)
        layout = config.Layout(self.paths.state / "node")
        store = stores.claim(
            self.paths.cache / "containerd", self.cgroup, self.paths.state, lambda state: bool(_processes(state))
        )
        with contextlib.ExitStack() as stack:
            forwards = [
                config.Forward(name, port, stack.enter_context(_listen(port)).fileno(), node_port)
                for name, port, node_port in (
                    ("web", self.ports.http, 80),
                    ("mlflow", self.ports.mlflow, 5000),
                    ("api", self.ports.kubernetes, config.API_PORT),
                )
            ]
            plan = Plan(
                hostname=config.NODE,
                address=config.ADDRESS,
                logs=str(self.paths.logs),
                status=str(self.paths.state / "node-status.json"),
                binds=config.binds(layout),
                inherited_fds=[forward.fd for forward in forwards],
                components=config.Configuration(
                    layout, programs, forwards, self._socket, store, self.cgroup
                ).components(),
            )
            file = self.paths.state / "node.json"
            plan.save(file)
            self._launch(file, plan.inherited_fds)

    def _launch(self, plan: Path, fds: list[int]) -> None:
        namespaces = ["--pid", "--fork", "--mount-proc", "--mount", "--net", "--ipc", "--uts", "--kill-child"]
        command = ["unshare", *namespaces, sys.executable, "-m", MODULE, str(plan)]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(REPOSITORY / "cluster" / "src")}
        with (self.paths.logs / "node.log").open("ab") as log:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/",
                pass_fds=fds, start_new_session=True,
            )  # fmt: skip

    def _remove_node(self) -> None:
        """Kill the node's first process, which ends all others, and remove its cgroups and state."""
        if (pid := self.first_process()) is not None:
            os.kill(pid, signal.SIGKILL)
        # `unshare` ends after the first process, which ends after all other processes of the node.
        wait_for(
            "the removal of the old node",
            lambda: "it is still running" if _processes(self.paths.state) else None,
            timeout_seconds=30,
        )
        for cgroup in cgroup_roots():
            _remove_cgroup(cgroup / self.cgroup)
        for leftover in ("node", "node.json", "node-status.json", "containerd.sock"):
            target = self.paths.state / leftover
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def first_process(self) -> int | None:
        """Return the host's pid of the node's process 1, found by its command line instead of a pid file."""
        return next((pid for pid, program in _processes(self.paths.state) if program != "unshare"), None)

    def _check_machine(self) -> None:
        """Report all unmet requirements of this machine together."""
        problems = []
        if os.geteuid() != 0:
            problems.append(
                "the embedded cluster needs root (for namespaces and mounts): run as root, or install Docker and kind"
            )
        release = OS_RELEASE.read_text()
        if "VERSION_CODENAME=bookworm" not in release:
            problems.append(
                "the embedded cluster needs Debian 12 (bookworm): use such a machine, or install Docker and kind"
            )
        memory = _available_memory_gib()
        if memory < NEEDED_MEMORY_GIB:
            problems.append(f"{memory:.1f} GiB of memory available, {NEEDED_MEMORY_GIB} GiB needed")
        disk = shutil.disk_usage(_existing(self.paths.state)).free / 2**30
        if disk < NEEDED_DISK_GIB:
            problems.append(
                f"{disk:.0f} GiB of disk space available at {self.paths.state}, {NEEDED_DISK_GIB} GiB needed"
            )
        problems += [
            f"port {port} of 127.0.0.1 is in use: set {variable} to a free port"
            for variable, port in self.ports.variables().items()
            if not _free(port)
        ]
        if problems:
            raise ClusterError(
                "this machine does not meet the requirements of the cluster:\n"
                + "\n".join(f"  - {p}" for p in problems)
            )

    def api_problem(self) -> str | None:
        """Return why the API server is not ready, None if it is."""
        if not self.kubeconfig.exists():
            return "there is no kubeconfig yet"
        if not self.running():
            return "the node's first process has ended"
        try:
            output([*self._kubectl(), "get", "--raw", "/readyz", "--request-timeout=5s"])
        except ClusterError as error:
            return str(error)
        return None

    def _node_problem(self) -> str | None:
        condition = '{.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}'
        try:
            found = output([*self._kubectl(), "get", "node", config.NODE, "-o", f"jsonpath={condition}"])
        except ClusterError as error:
            return str(error)
        return None if found.startswith("True") else found

    def _kubectl(self) -> list[str]:
        return [str(self.paths.tools / "kubectl"), "--kubeconfig", str(self.kubeconfig)]

    def _ctr(self) -> list[str]:
        return [binaries.provide(self.paths).path("ctr"), "--address", str(self._socket), "--namespace", "k8s.io"]

    def _import(self, image: Built) -> None:
        run([*self._ctr(), "images", "import", str(image.archive)], self.paths.logs / "images.log")
        if image.reference not in self._images():
            raise ClusterError(f"{image.archive} does not contain the image {image.reference}")

    def _images(self) -> set[str]:
        return set(output([*self._ctr(), "images", "list", "--quiet"]).split())

    def _remove_stale_images(self) -> None:
        """Remove old versions of the stack's images; called right after the start, when no pod uses them."""
        current = Builder(self.paths).references((*ALL, PROMETHEUS))
        stale = stores.stale(output([*self._ctr(), "images", "list"]), current)
        if stale:
            run([*self._ctr(), "images", "remove", *stale], self.paths.logs / "images.log")


def _processes(state: Path) -> list[tuple[int, str]]:
    """Return (pid, program) of a node's first process and of the `unshare` that waits for it."""
    plan = str(state / "node.json")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if MODULE in arguments and plan in arguments:
                    found.append((int(entry.name), arguments[0]))
    return found


def _listen(port: int) -> socket.socket:
    """Open a listening socket in the host's network namespace, on which the node accepts from inside its own."""
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError as error:
        raise ClusterError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
    return listener


def _free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def _available_memory_gib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    raise ClusterError("/proc/meminfo has no MemAvailable line")


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def cgroup_roots() -> list[Path]:
    """Return the roots of all cgroup hierarchies: one for v2, one per controller for v1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [entry for entry in sorted(CGROUPS.iterdir()) if (entry / "cgroup.procs").exists()]


def _make_cgroup(cgroup: Path) -> None:
    cgroup.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        # A new v1 cpuset is empty: no process can enter it until it has CPUs and memory nodes.
        if (cgroup / name).exists() and not (cgroup / name).read_text().strip():
            (cgroup / name).write_text((cgroup.parent / name).read_text())


def _remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and everything below it, waiting for its last process to exit."""
    deadline = time.monotonic() + 15
    while cgroup.exists():
        for folder in sorted((path for path in cgroup.rglob("*") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        try:
            cgroup.rmdir()
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(f"cannot remove the cgroup {cgroup}: {error.strerror}") from error
            time.sleep(0.1)
