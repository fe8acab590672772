"""`python -m scorer check FOLDER`: whether this service can serve a version, in its own words."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from scorer.applications.rows import CodeRows, FloatRows
from scorer.model.artifact_copy import MANIFEST, Manifest, restore_copy
from scorer.model.bundle import Model, load_model
from scorer.model.identity import Identity
from scorer.model.readiness import ArtifactRejectedError, LoadingError
from scorer.model.version_cache import VersionCache
from scorer.problems import Problem


class Verdict(msgspec.Struct, frozen=True):
    """Whether a version can be served.

    Attributes:
        servable: Whether it can.
        reason: Why not.
        reference_probability: The reference applicant's probability of default.
        probabilities: Those of the given applications, in their order.
    """

    servable: bool
    reason: str | UnsetType = UNSET
    reference_probability: float | UnsetType = UNSET
    probabilities: tuple[float, ...] | UnsetType = UNSET


@dataclass
class RefusedError(Exception):
    """An application that should be accepted is refused."""

    which: str
    problem: Problem

    def __str__(self) -> str:
        fields = "; ".join(f"{e.field} {e.problem}, allowed: {e.allowed}" for e in self.problem.errors)
        return f"{self.which} is refused with {self.problem.status}: {self.problem.detail}" + (
            f" ({fields})" if fields else ""
        )


def check(folder: Path, applications: Sequence[bytes]) -> Verdict:
    """Load a version as a pod does, and score its reference applicant and applications from JSON.

    Args:
        folder: Has `model.onnx` and `contract.json`, or, if it also has a manifest, the files that this names.
        applications: JSON objects, as clients send them.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            model = _load(folder, Path(scratch))
        reference = msgspec.json.encode(model.contract.reference_applicant)
        names = ("the reference applicant", *(f"application {line}" for line in range(1, len(applications) + 1)))
        rows = [_decode(model, name, body) for name, body in zip(names, (reference, *applications), strict=True)]
    except (LoadingError, RefusedError) as error:
        return Verdict(servable=False, reason=str(error))
    numeric, codes = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    # Reasons are computed for every applicant who asks for them.
    model.explainer.explain(numeric[:1], codes[:1])
    first, *others = model.network.score_many(numeric, codes).tolist()
    return Verdict(servable=True, reference_probability=first, probabilities=tuple(others))


def _load(folder: Path, scratch: Path) -> Model:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return load_model(folder, Identity(name="", version="", run_id="", digests={}, metrics={}))
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
        raise ArtifactRejectedError(f"{folder} has no valid {MANIFEST}: {error}") from error
    found = restore_copy(folder, VersionCache(scratch), manifest.name, manifest.version)
    if found is None:
        raise ArtifactRejectedError(f"{folder} changed while it was read")
    return load_model(found[1], found[0])


def _decode(model: Model, which: str, body: bytes) -> tuple[FloatRows, CodeRows]:
    try:
        return model.decoder.decode(body)
    except Problem as problem:
        raise RefusedError(which, problem) from problem


def main(arguments: Sequence[str]) -> int:
    """Print the verdict as JSON; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scorer check",
        description="Load a version as the service does, score its reference applicant from JSON, and print the "
        "verdict as JSON. Exit codes: 0 it can be served, 1 it cannot, 2 invalid arguments.",
    )
    parser.add_argument("folder", type=Path, help="has model.onnx and contract.json, and a manifest or not")
    parser.add_argument("--applications", type=Path, help="also score the applications in this file, one per line")
    given = parser.parse_args(arguments)
    try:
        lines = given.applications.read_bytes().splitlines() if given.applications else []
    except OSError as error:
        parser.error(f"--applications {given.applications}: {error.strerror}")
    verdict = check(given.folder, lines)
    sys.stdout.write(msgspec.json.encode(verdict).decode() + "\n")
    return 0 if verdict.servable else 1
