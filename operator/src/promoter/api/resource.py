"""What the parts of the API share: kind, names and annotations of related objects, the base model, approvals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

GROUP, VERSION, PLURAL, KIND = "creditrisk.io", "v1alpha1", "modelpromotions", "ModelPromotion"
API_VERSION = f"{GROUP}/{VERSION}"
# Set by users on a ModelPromotion.
ACTION_ANNOTATION = f"{GROUP}/action"
# On pod templates and pods: the model version to serve.
VERSION_ANNOTATION = f"{GROUP}/model-version"

# Why the files of a version are not kept in the cluster.
ArtifactsReason = Literal["TooLarge", "Rejected", "VersionNotFound", "RegistryUnavailable", "Refused"]

Trigger = Literal["Drift", "Performance", "Outcomes", "Interval"]
# Refused: by a gate.
TrainingOutcome = Literal["Succeeded", "Refused", "Failed"]

# As long as the API server's users and groups usually are; longer ones cannot approve.
Identity = Annotated[str, Field(min_length=1, max_length=250)]


class Base(BaseModel):
    """A part of the resource: camelCase outside, snake_case inside, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", protected_namespaces=()
    )


class StatusPart(Base):
    """A part of the status; also reads the keys of older operators."""

    # New key by old key.
    RENAMED: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, document: Any) -> Any:  # noqa: ANN401 - any JSON
        """Rename old keys; they win, because a new key beside them is a default filled in by the API server."""
        if not isinstance(document, dict) or not cls.RENAMED.keys() & document.keys():
            return document
        current = {key: value for key, value in document.items() if key not in cls.RENAMED}
        return current | {cls.RENAMED[key]: document[key] for key in cls.RENAMED if key in document}


class Auc(StatusPart):
    """The AUC of loans, and where it lies with 95 % probability."""

    value: float
    lower: float
    upper: float
    loans: int


class Approvals(Base):
    """What a pause waits for: different people of certain groups."""

    needed: int = Field(default=1, ge=1, le=10, description=(
        "How many different people have to approve. Whoever trained the version is not enough alone."))  # fmt: skip
    groups: tuple[Identity, ...] = Field(min_length=1, max_length=20, description=(
        "Groups, as the API server knows them, whose members may approve."))  # fmt: skip


@dataclass(frozen=True)
class Owner:
    """The identity of the ModelPromotion that something is done for."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        """Return the name as kubectl prints it with --all-namespaces."""
        return f"{self.namespace}/{self.name}"


def canary_name(target: str) -> str:
    """Return the name of a target's canary Deployment and Service."""
    return f"{target}-canary"


def route_name(target: str) -> str:
    """Return the name of a target's route ConfigMap."""
    return f"{target}-route"
