"""Builds images without a container engine: mmdebstrap makes the base, buildah the rest, an archive is the result."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from localcluster import packages
from localcluster.console import ClusterError, run, step
from localcluster.images import Image
from localcluster.paths import REPOSITORY, Paths

PYTHON_PACKAGES = "ca-certificates,python3,python3-venv,tini"
POSTGRES_PACKAGES = "ca-certificates,tini,postgresql-15"
OWN = REPOSITORY / "cluster" / "embedded" / "images"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
POSTGRES = Image("postgres", "cluster/embedded/images/postgres/Dockerfile", ("cluster/embedded/images/postgres",))
SEAWEEDFS = Image("seaweedfs", "cluster/embedded/images/seaweedfs/Dockerfile", ())
PAUSE = Image("pause", "cluster/embedded/images/pause/Dockerfile", ())


@dataclass(frozen=True)
class Built:
    """An image that stands in the cache as an archive."""

    image: Image
    reference: str
    archive: Path


class Builder:
    """Builds into the cache; a second call with the same content builds nothing."""

    def __init__(self, paths: Paths) -> None:
        """Take where the cache and the logs are."""
        self._paths = paths
        self._log = paths.logs / "images.log"

    def build(self, images: tuple[Image, ...]) -> list[Built]:
        """Return an archive for each of the stack's images and the node's own, building what is not cached."""
        built = [self._on(image, PYTHON_PACKAGES) for image in images]
        built.append(self._on(SEAWEEDFS, PYTHON_PACKAGES, fill=self._weed, salt=packages.SEAWEEDFS.sha256))
        built.append(self._on(POSTGRES, POSTGRES_PACKAGES))
        built.append(self._on(PAUSE, PYTHON_PACKAGES))
        return built

    def _on(
        self, image: Image, base_packages: str, *, fill: Callable[[Path], Path] | None = None, salt: str = ""
    ) -> Built:
        """Build on a base with these packages; `fill` makes the build context where it is not the repository."""
        reference = image.reference(base_packages + salt)
        archive = self._paths.images / f"{image.name}-{reference.rpartition(':')[2]}.tar"
        if not archive.exists():
            base = self._base(base_packages)
            with step(f"build the image {image.name}", self._log), TemporaryDirectory(dir=self._paths.cache) as scratch:
                folder = fill(Path(scratch)) if fill else REPOSITORY
                self._buildah(image, base, reference, folder, Path(scratch))
                self._export(reference, archive)
        return Built(image, reference, archive)

    def _weed(self, scratch: Path) -> Path:
        packages.extract(packages.SEAWEEDFS, scratch / "context", self._paths, self._log)
        return scratch / "context"

    def _base(self, include: str) -> str:
        """Make a Debian base image with the named packages, once."""
        name = f"localhost/credit-risk/base:{hashlib.sha256(include.encode()).hexdigest()[:12]}"
        if self._exists(name):
            return name
        with (
            step(f"make a Debian base image with {include}", self._log),
            TemporaryDirectory(dir=self._paths.cache) as scratch,
        ):
            sources = Path(scratch) / "sources.list"
            sources.write_text(packages.debian_sources("deb"))
            rootfs = Path(scratch) / "rootfs.tar"
            command = ["mmdebstrap", "--variant=minbase", f"--include={include}", "bookworm"]
            run([*command, str(rootfs), str(sources)], self._log)
            dockerfile = OWN / "base.Dockerfile"
            run([*self._bud(), "--file", str(dockerfile), "--tag", name, scratch], self._log)
        return name

    def _buildah(self, image: Image, base: str, reference: str, context: Path, scratch: Path) -> None:
        pip, mounts = _pip_configuration()
        (scratch / "pip.conf").write_text(pip)
        volumes = {str(scratch / "pip.conf"): "/etc/pip.conf", **{mount: mount for mount in mounts}}
        run(
            [
                *self._bud(),
                *(f"--volume={source}:{target}:ro" for source, target in volumes.items()),
                f"--build-arg=BASE_IMAGE={base}",
                f"--file={REPOSITORY / image.dockerfile}",
                f"--tag={reference}",
                str(context),
            ],
            self._log,
        )

    def _export(self, reference: str, archive: Path) -> None:
        """Write the archive whole or not at all; uncompressed, because it is unpacked a moment later."""
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        target = f"oci-archive:{partial}:{reference}"
        run([*self._storage(), "push", "--quiet", "--disable-compression", reference, target], self._log)
        partial.rename(archive)
        for older in archive.parent.glob(f"{archive.name.rpartition('-')[0]}-*.tar"):
            if older != archive:
                older.unlink()

    def _storage(self) -> list[str]:
        root = self._paths.cache / "buildah"
        return ["buildah", "--storage-driver", "overlay", "--root", str(root), "--runroot", f"{root}-run"]

    def _bud(self) -> list[str]:
        return [*self._storage(), "bud", "--isolation", "chroot", "--network", "host", "--layers", "--quiet"]

    def _exists(self, name: str) -> bool:
        found = subprocess.run([*self._storage(), "inspect", "--type", "image", name], capture_output=True)
        return found.returncode == 0


def _pip_configuration() -> tuple[str, list[str]]:
    """Return this machine's pip settings as one file, and the local folders and files that they name.

    The file is mounted while an image is built and is not part of it.
    """
    result = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    if result.returncode != 0:
        raise ClusterError(f"`pip config list` failed: {result.stderr.strip()}")
    settings: dict[str, str] = {}
    for line in result.stdout.splitlines():
        name, _, value = line.partition("=")
        settings[name.removeprefix(":env:.").rpartition(".")[2]] = value.strip("'\"")
    mounts = [str(CERTIFICATES)] if CERTIFICATES.exists() else []
    for word in " ".join(settings.values()).split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            # A local index links to files that lie beside it.
            mounts.append(str(path.parent if word.startswith("file://") else path))
    mounts = list(dict.fromkeys(mounts))
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    return f"[global]\n{lines}", mounts
