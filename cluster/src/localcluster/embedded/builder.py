"""Build images without a container engine: mmdebstrap creates the base, buildah the rest; the result is an archive."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from localcluster import packages
from localcluster.console import ClusterError, output, run, step
from localcluster.images import Image, build_arguments
from localcluster.paths import REPOSITORY, Paths

PYTHON_PACKAGES = "ca-certificates,python3,python3-venv,tini"
POSTGRES_PACKAGES = "ca-certificates,tini,postgresql-15"
PROMETHEUS_PACKAGES = "ca-certificates,tini,prometheus,prometheus-alertmanager,prometheus-blackbox-exporter"
OWN = REPOSITORY / "cluster" / "embedded" / "images"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
POSTGRES = Image("postgres", "cluster/embedded/images/postgres/Dockerfile", ("cluster/embedded/images/postgres",))
# Only for releases with a Prometheus.
PROMETHEUS = Image("prometheus", "cluster/embedded/images/prometheus/Dockerfile", ())
SEAWEEDFS = Image("seaweedfs", "cluster/embedded/images/seaweedfs/Dockerfile", ())
# The newest image of a name is in use; the previous one serves a rollback or another working copy.
KEPT_IMAGES = 2
# Build stages are kept up to this total size, so that a code change does not reinstall packages.
STORE_GIB = 12
PAUSE = Image("pause", "cluster/embedded/images/pause/Dockerfile", ())


@dataclass(frozen=True)
class Built:
    """An image that is in the cache as an archive."""

    image: Image
    reference: str
    archive: Path


@dataclass(frozen=True)
class _Recipe:
    """How to build an image: its base packages, and `fill` to create a build context other than the repository."""

    image: Image
    base_packages: str
    fill: Callable[[Path], Path] | None = None
    salt: str = ""

    @property
    def reference(self) -> str:
        return self.image.reference(self.base_packages + self.salt)


class Builder:
    """Builds images into the cache; unchanged images are not rebuilt."""

    def __init__(self, paths: Paths) -> None:
        """Use the cache and the logs of these paths."""
        self._paths = paths
        self._log = paths.logs / "images.log"

    def build(self, images: Sequence[Image]) -> list[Built]:
        """Return an archive of each of the given images and of the node's own; build what is not cached."""
        return [self._built(recipe) for recipe in self._recipes(images)]

    def references(self, images: Sequence[Image]) -> set[str]:
        """Return the references that `build` would return, without building."""
        return {recipe.reference for recipe in self._recipes(images)}

    def _recipes(self, images: Sequence[Image]) -> list[_Recipe]:
        return [
            *(_Recipe(image, PROMETHEUS_PACKAGES if image is PROMETHEUS else PYTHON_PACKAGES) for image in images),
            _Recipe(SEAWEEDFS, PYTHON_PACKAGES, fill=self._weed, salt=packages.SEAWEEDFS.sha256),
            _Recipe(POSTGRES, POSTGRES_PACKAGES),
            _Recipe(PAUSE, PYTHON_PACKAGES),
        ]

    def _built(self, recipe: _Recipe) -> Built:
        image, reference = recipe.image, recipe.reference
        archive = self._paths.images / f"{image.name}-{reference.rpartition(':')[2]}.tar"
        if not archive.exists():
            base = self._base(recipe.base_packages)
            with step(f"Build the image {image.name}", self._log), TemporaryDirectory(dir=self._paths.cache) as scratch:
                folder = recipe.fill(Path(scratch)) if recipe.fill else REPOSITORY
                self._buildah(image, base, reference, folder, Path(scratch))
                self._export(reference, archive)
        return Built(image, reference, archive)

    def _weed(self, scratch: Path) -> Path:
        packages.extract(packages.SEAWEEDFS, scratch / "context", self._paths, self._log)
        return scratch / "context"

    def _base(self, include: str) -> str:
        """Create a Debian base image with these packages unless it exists."""
        name = f"localhost/credit-risk/base:{hashlib.sha256(include.encode()).hexdigest()[:12]}"
        if self._exists(name):
            return name
        with (
            step(f"Create a Debian base image with {include}", self._log),
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
        pip, uv, mounts = _installer_configuration()
        (scratch / "pip.conf").write_text(pip)
        (scratch / "uv.toml").write_text(uv)
        settings = {str(scratch / "pip.conf"): "/etc/pip.conf", str(scratch / "uv.toml"): "/etc/uv/uv.toml"}
        volumes = {**settings, **{mount: mount for mount in mounts}}
        run(
            [
                *self._bud(),
                *(f"--volume={source}:{target}:ro" for source, target in volumes.items()),
                *build_arguments(image, base),
                f"--file={REPOSITORY / image.dockerfile}",
                f"--tag={reference}",
                str(context),
            ],
            self._log,
        )

    def _export(self, reference: str, archive: Path) -> None:
        """Write the archive atomically, in Docker's format, whose uncompressed layers are faster to write and read."""
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        target = f"docker-archive:{partial}:{reference}"
        run([*self._storage(), "push", "--quiet", reference, target], self._log)
        partial.rename(archive)
        self._remove_older(reference.rpartition(":")[0], archive)

    def _remove_older(self, name: str, archive: Path) -> None:
        """Remove all but the newest images of a name, and build leftovers if they have grown too large."""
        archives = sorted(
            archive.parent.glob(f"{archive.name.rpartition('-')[0]}-*.tar"), key=lambda a: a.stat().st_mtime
        )
        for older in archives[:-KEPT_IMAGES]:
            older.unlink()
        # buildah lists the newest image first.
        references = output(
            [*self._storage(), "images", "--format", "{{.Name}}:{{.Tag}}", f"--filter=reference={name}"]
        ).split()
        if references[KEPT_IMAGES:]:
            run([*self._storage(), "rmi", *references[KEPT_IMAGES:]], self._log)
        if int(output(["du", "-sx", "--block-size=1G", str(self._paths.cache / "buildah")]).split()[0]) > STORE_GIB:
            run([*self._storage(), "rmi", "--prune"], self._log)

    def _storage(self) -> list[str]:
        root = self._paths.cache / "buildah"
        return ["buildah", "--storage-driver", "overlay", "--root", str(root), "--runroot", f"{root}-run"]

    def _bud(self) -> list[str]:
        return [*self._storage(), "bud", "--isolation", "chroot", "--network", "host", "--layers", "--quiet"]

    def _exists(self, name: str) -> bool:
        found = subprocess.run([*self._storage(), "inspect", "--type", "image", name], capture_output=True)
        return found.returncode == 0


@functools.cache
def _installer_configuration() -> tuple[str, str, tuple[str, ...]]:
    """Return this machine's pip settings as a pip.conf, as a uv.toml, and the local files and folders they refer to.

    These are mounted while an image is built and do not become part of it.
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
            # A local index links to files in its own folder.
            mounts.append(str(path.parent if word.startswith("file://") else path))
    pip = "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
    uv = f"native-tls = true\n[pip]\nfind-links = {json.dumps(settings.get('find-links', '').split())}\n"
    if index := settings.get("index-url"):
        uv += f"index-url = {json.dumps(index)}\n"
    return pip, uv, tuple(dict.fromkeys(mounts))
