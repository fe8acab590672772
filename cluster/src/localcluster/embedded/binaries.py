"""The node's programs: Kubernetes, compiled from Debian's source package, and daemons unpacked from packages.

Debian's daemons are unpacked into the cache instead of being installed, so that no service is started on this machine
and an installed containerd or etcd is not touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from localcluster import packages
from localcluster.console import ClusterError, run, step
from localcluster.paths import REPOSITORY, Paths

KUBERNETES_VERSION = "1.20.2"
SOURCE_VERSION = "1.20.5+really1.20.2-1.1+deb12u1"
ORIG_SHA256 = "b83c0780efb182d928dc63d46488a847f161f04e40a94b96bf5247dd671ecdfc"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
VENDOR = "k8s.io/kubernetes/vendor/k8s.io"
STAMPED = (f"{VENDOR}/component-base/version", f"{VENDOR}/client-go/pkg/version")
PATCHES = REPOSITORY / "cluster" / "embedded" / "patches"
GO_ROOT = Path("/usr/lib/go-1.19")
# Upstream versions are pinned; Debian security updates of the same version are accepted.
DEBIAN_DAEMONS = {
    "containerd": "1.6.20*",
    "runc": "1.1.5*",
    "etcd-server": "3.4.23*",
    "containernetworking-plugins": "1.1.1*",
    "haproxy": "2.6.12*",
    "liblua5.3-0": "5.3.6*",
    "libopentracing-c-wrapper0": "1.1.3*",
    "libopentracing1": "1.6.0*",
}


@dataclass(frozen=True)
class Binaries:
    """Folders of the node's programs."""

    kubernetes: Path
    daemons: Path
    extras: Path

    def path(self, name: str) -> str:
        """Return the path of a program.

        Raises:
            ClusterError: No folder contains it.
        """
        for folder in (self.kubernetes, self.extras, self.daemons / "usr/bin", self.daemons / "usr/sbin"):
            if (folder / name).exists():
                return str(folder / name)
        raise ClusterError(f"program {name} not found in {self.kubernetes}, {self.extras} or {self.daemons}")

    @property
    def cni(self) -> Path:
        """Folder of the CNI plugins."""
        return self.daemons / "usr/lib/cni"

    @property
    def search_path(self) -> str:
        """A PATH with the node's programs first."""
        own = [self.kubernetes, self.extras, self.daemons / "usr/sbin", self.daemons / "usr/bin"]
        return ":".join([*map(str, own), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])

    @property
    def library_path(self) -> str:
        """Folder of the unpacked shared libraries."""
        return str(self.daemons / "usr/lib/x86_64-linux-gnu")


def provide(paths: Paths) -> Binaries:
    """Return all programs of the node; compile and download only what is not cached."""
    return Binaries(
        kubernetes=_kubernetes(paths),
        daemons=_daemons(paths),
        extras=_extras(paths),
    )


def _recipe_hash() -> str:
    digest = hashlib.sha256(f"{SOURCE_VERSION} {ORIG_SHA256} {COMMANDS} {STAMPED}".encode())
    for patch in sorted(PATCHES.glob("*.patch")):
        digest.update(patch.read_bytes())
    return digest.hexdigest()[:12]


def kubernetes_folder(paths: Paths) -> Path:
    """Return where the compiled Kubernetes is, or will be once it has been compiled."""
    return paths.cache / f"kubernetes-{KUBERNETES_VERSION}-{_recipe_hash()}"


def _kubernetes(paths: Paths) -> Path:
    target = kubernetes_folder(paths)
    if target.exists():
        return target
    log = paths.logs / "kubernetes-build.log"
    work = paths.cache / "kubernetes-build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with step(f"Download the source of Kubernetes {KUBERNETES_VERSION}", log):
        packages.apt_install(["golang-1.19-go", "dpkg-dev", "make", "patch", "rsync", "gcc", "libc6-dev"], log)
        tree = _source(work, log)
    with step(f"Compile Kubernetes {KUBERNETES_VERSION} (about 5 minutes on 2 cores, only once)", log):
        _compile(work, tree, log)
    (work / "bin").rename(target)
    shutil.rmtree(work)
    return target


def _source(work: Path, log: Path) -> Path:
    """Download and unpack the source package, and apply Debian's patches and then our own."""
    (work / "lists/partial").mkdir(parents=True)
    (work / "sources.list").write_text(packages.debian_sources("deb-src", "bookworm"))
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "--quiet", *(f"-o{key}={value}" for key, value in options.items())]
    run([*apt, "update"], log, cwd=work)
    run([*apt, "source", "--download-only", f"kubernetes={SOURCE_VERSION}"], log, cwd=work)
    (orig,) = work.glob("kubernetes_*.orig.tar.gz")
    if (found := packages.sha256_of(orig)) != ORIG_SHA256:
        raise ClusterError(f"{orig.name} has SHA-256 {found}, but {ORIG_SHA256} is pinned")
    (dsc,) = work.glob("kubernetes_*.dsc")
    tree = work / "gopath/src/k8s.io/kubernetes"
    tree.parent.mkdir(parents=True)
    run(["dpkg-source", "--no-check", "--extract", str(dsc), str(tree)], log, cwd=work)
    for patch in sorted(PATCHES.glob("*.patch")):
        run(["patch", "--strip=1", "--directory", str(tree), "--input", str(patch)], log)
    return tree


def _compile(work: Path, tree: Path, log: Path) -> None:
    environment = {
        "HOME": str(work),
        "PATH": f"{GO_ROOT}/bin:/usr/bin:/bin",
        "GOROOT": str(GO_ROOT),
        "GOPATH": str(work / "gopath"),
        "GOCACHE": str(work / "gocache"),
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
    }
    run(["make", "generated_files"], log, cwd=tree, env=environment)
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(
        ["-s", "-w", *(f"-X {package}.{key}={value}" for package in STAMPED for key, value in stamps.items())]
    )
    (work / "bin").mkdir()
    command = ["go", "build", "-p", str(os.cpu_count() or 1), "-trimpath", "-tags", "providerless,dockerless"]
    sources = [f"./cmd/{name}" for name in COMMANDS]
    run([*command, "-ldflags", flags, "-o", f"{work}/bin/", *sources], log, cwd=tree, env=environment)


def _daemons(paths: Paths) -> Path:
    recipe = hashlib.sha256(repr(sorted(DEBIAN_DAEMONS.items())).encode()).hexdigest()[:12]
    target = paths.cache / f"daemons-{recipe}"
    if target.exists():
        return target
    log = paths.logs / "packages.log"
    with step("Unpack etcd, containerd, runc, CNI plugins and HAProxy", log):
        work = paths.cache / "daemons-partial"
        shutil.rmtree(work, ignore_errors=True)
        (work / "debs").mkdir(parents=True)
        run(["apt-get", "update", "--quiet"], log)
        pinned = [f"{name}={version}" for name, version in DEBIAN_DAEMONS.items()]
        run(["apt-get", "download", "-oAPT::Sandbox::User=root", *pinned], log, cwd=work / "debs")
        for deb in sorted((work / "debs").glob("*.deb")):
            run(["dpkg-deb", "--extract", str(deb), str(work / "root")], log)
        (work / "root").rename(target)
        shutil.rmtree(work)
    return target


def _extras(paths: Paths) -> Path:
    target = paths.cache / f"extras-{packages.COREDNS.version}-{packages.TRAEFIK.version}"
    if not target.exists():
        log = paths.logs / "packages.log"
        with step("Download CoreDNS and Traefik", log):
            partial = paths.cache / "extras-partial"
            shutil.rmtree(partial, ignore_errors=True)
            packages.extract(packages.COREDNS, partial, paths, log)
            packages.extract(packages.TRAEFIK, partial, paths, log)
            partial.rename(target)
    return target
