"""The stack's images, tagged with the hash of their inputs so that unchanged images are not rebuilt."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from localcluster.paths import REPOSITORY

IGNORED = {"__pycache__", ".mypy_cache"}


@dataclass(frozen=True)
class Image:
    """An image: its Dockerfile and the files and folders it copies, relative to the repository's root."""

    name: str
    dockerfile: str
    inputs: tuple[str, ...]

    def content_hash(self, base: str) -> str:
        """Return a short hash of the Dockerfile, all inputs and the identity of the base image."""
        digest = hashlib.sha256(base.encode())
        for file in sorted(file for entry in (self.dockerfile, *self.inputs) for file in _files(REPOSITORY / entry)):
            digest.update(f"{file.relative_to(REPOSITORY)} {file.stat().st_mode & 0o111}\n".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()[:12]

    def reference(self, base: str) -> str:
        """Return the image's full local name, tagged with its content hash."""
        return f"localhost/credit-risk/{self.name}:{self.content_hash(base)}"


LOCKS = ("requirements/build.txt",)
API = Image("api", "images/api/Dockerfile", (*LOCKS, "requirements/api.txt", "images/api/src"))
# Its serving gate is the scoring service's own check.
_TRAINING_SOURCES = ("images/training/src", "images/api/src")
TRAINING = Image("training", "images/training/Dockerfile", (*LOCKS, "requirements/training.txt", *_TRAINING_SOURCES))
MLFLOW = Image("mlflow", "images/mlflow/Dockerfile", (*LOCKS, "requirements/mlflow.txt", "images/mlflow/src"))
OPERATOR = Image(
    "operator", "images/operator/Dockerfile", (*LOCKS, "requirements/operator.txt", "operator/src/promoter")
)
# It scores a stored decision again with the scoring service's own code, as bulk scoring does with whole folders.
_DECISIONS_SOURCES = ("images/decisions/src", "images/api/src", "images/scoring/src")
DECISIONS = Image(
    "decisions", "images/decisions/Dockerfile", (*LOCKS, "requirements/decisions.txt", *_DECISIONS_SOURCES)
)
# What every release needs, and what those with the decision log or bulk scoring need.
STACK = (API, TRAINING, MLFLOW, OPERATOR)
ALL = (*STACK, DECISIONS)


def build_arguments(image: Image, base: str) -> list[str]:
    """Return the build arguments: the base image and, for the training image, the commit that its runs record."""
    commit = [f"--build-arg=GIT_REVISION={_revision()}"] if image is TRAINING else []
    return [f"--build-arg=BASE_IMAGE={base}", *commit]


def _revision() -> str:
    """Return the current commit, marked as dirty if the working copy differs; `unknown` outside of git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _files(entry: Path) -> list[Path]:
    if entry.is_file():
        return [entry]
    return [file for file in entry.rglob("*") if file.is_file() and not IGNORED.intersection(file.parts)]
