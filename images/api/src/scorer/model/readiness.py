"""Why a pod is or is not ready, as machine-readable codes: contracts/readiness-codes.json lists them."""

from __future__ import annotations

from enum import StrEnum


class ReadinessCode(StrEnum):
    """What /readyz answers beside its text; the operator acts on these."""

    READY = "ready"
    STARTING = "starting"
    DRAINING = "draining"
    REGISTRY_UNAVAILABLE = "registry-unavailable"
    VERSION_NOT_FOUND = "version-not-found"
    ARTIFACT_REJECTED = "artifact-rejected"
    MODEL_REJECTED = "model-rejected"


class LoadingError(Exception):
    """The model could not be loaded; each subclass has a readiness code of its own."""

    code: ReadinessCode


class RegistryUnavailableError(LoadingError):
    """The registry or its artifacts are unavailable; a later attempt may succeed."""

    code = ReadinessCode.REGISTRY_UNAVAILABLE

    def __init__(self, message: str, status: int | None = None) -> None:
        """Take what happened, and the status of an answer if there was one."""
        super().__init__(message)
        self.status = status


class VersionNotFoundError(LoadingError):
    """The registry answers, but has no such version yet."""

    code = ReadinessCode.VERSION_NOT_FOUND


class ArtifactRejectedError(LoadingError):
    """A version's files are not the ones that its tags describe; retrying does not help."""

    code = ReadinessCode.ARTIFACT_REJECTED


class ModelError(LoadingError):
    """The files are not a model that this service can serve; the message says what is wrong with them."""

    code = ReadinessCode.MODEL_REJECTED
