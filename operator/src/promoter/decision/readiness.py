"""Readiness codes of a scoring pod, as listed in contracts/readiness-codes.json."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReadinessCode(StrEnum):
    """Why a pod is ready or not."""

    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    REGISTRY_UNAVAILABLE = "registry-unavailable"
    VERSION_NOT_FOUND = "version-not-found"
    ARTIFACT_REJECTED = "artifact-rejected"
    MODEL_REJECTED = "model-rejected"


# Waiting does not help: the files of the version can never be served.
PERMANENT = frozenset({ReadinessCode.ARTIFACT_REJECTED, ReadinessCode.MODEL_REJECTED})


@dataclass(frozen=True)
class Readiness:
    """What a pod answers on /readyz; `code` is None if it did not answer or used a code unknown here."""

    code: ReadinessCode | None = None
    detail: str = ""

    @property
    def permanent(self) -> bool:
        """Return whether the pod can never become ready with this version."""
        return self.code in PERMANENT
