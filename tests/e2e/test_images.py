"""The images as built: small, without a compiler, and not run as root."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from aws.programs import TRIVY, program
from conftest import REPOSITORY
from e2e.archives import IMAGES, archive_of
from localcluster.cluster import Cluster
from localcluster.images import API, Image

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
API_ADDS_AT_MOST_BYTES = 220_000_000


def test_the_api_image_adds_little_to_its_base(cluster: Cluster) -> None:
    api = archive_of(cluster, API)
    # The pause image is the common base plus one program.
    base = max(cluster.paths.images.glob("pause-*.tar"), key=lambda archive: archive.stat().st_mtime)
    assert 0 < api.stat().st_size - base.stat().st_size <= API_ADDS_AT_MOST_BYTES


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_an_unprivileged_user(cluster: Cluster, image: Image) -> None:
    assert configuration(archive_of(cluster, image))["User"] == "10001:10001"


@pytest.mark.parametrize("image", IMAGES)
def test_no_image_has_a_compiler_or_a_package_cache(cluster: Cluster, image: Image) -> None:
    forbidden = {"usr/bin/gcc", "usr/bin/cc", "opt/build", "root/.cache/pip", "root/.cache/uv"}
    assert not forbidden & contents(archive_of(cluster, image))


def test_the_api_image_has_no_training_libraries(cluster: Cluster) -> None:
    packages = "opt/venv/lib/python3.11/site-packages"
    files = contents(archive_of(cluster, API))
    assert f"{packages}/onnxruntime" in files
    assert not {f"{packages}/{library}" for library in ("torch", "mlflow", "pandas", "sklearn")} & files


@pytest.mark.parametrize("image", IMAGES)
def test_a_bill_of_materials_lists_every_locked_package(cluster: Cluster, image: Image, tmp_path: Path) -> None:
    """Removing files to make an image small must not hide a package from scanners."""
    subprocess.run(
        [str(program(TRIVY, tmp_path / "log")), "image", "--input", str(archive_of(cluster, image)),
         "--format", "cyclonedx", "--skip-version-check", "--disable-telemetry", "--cache-dir", str(tmp_path),
         "--output", str(tmp_path / "bom")],
        check=True, capture_output=True,
    )  # fmt: skip
    components = json.loads((tmp_path / "bom").read_text())["components"]
    listed = {(_normal(c["name"]), c["version"]) for c in components if c.get("purl", "").startswith("pkg:pypi/")}
    lock = (REPOSITORY / "requirements" / f"{image.name}.txt").read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    locked = {(_normal(package), version) for package, version in pins}
    assert locked
    assert locked - listed == set()
    assert any(c.get("purl", "").startswith("pkg:deb/") for c in components)


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def configuration(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as outer:
        found: dict[str, Any] = json.loads(_member(outer, _manifest(outer)["Config"]))["config"]
    return found


def contents(archive: Path) -> set[str]:
    """Return every path in an image's layers."""
    found: set[str] = set()
    with tarfile.open(archive) as outer:
        for layer in _manifest(outer)["Layers"]:
            stream = outer.extractfile(layer)
            assert stream
            with tarfile.open(fileobj=stream) as inner:
                found.update(member.name.removeprefix("./").rstrip("/") for member in inner)
    return found


def _manifest(outer: tarfile.TarFile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_member(outer, "manifest.json"))[0]
    return found


def _member(outer: tarfile.TarFile, name: str) -> bytes:
    stream = outer.extractfile(name)
    assert stream
    return stream.read()
