"""ModelPromotions as the plugin sees them, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from kubectl_promotion.cluster.kubectl import Document, Kubectl
from kubectl_promotion.errors import FAILED, NOT_FOUND, USAGE, CommandError
from promoter.api.resource import ACTION_ANNOTATION, GROUP, PLURAL, VERSION, Base
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import Spec
from promoter.api.status import MetricResult, State
from promoter.api.timestamps import to_seconds

_BASE = f"/apis/{GROUP}/{VERSION}"
# What may stand before a name, as in `kubectl get mp/credit-risk`.
_KINDS = {"mp", "modelpromotion", "modelpromotions"}


class _Bounds(Base):
    """The interval that a check's value lies in; operators that do not compute one leave it out."""

    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Check:
    """One check of the last analysis: its result, and the confidence interval of its value if there is one."""

    result: MetricResult
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class ModelPromotion:
    """A ModelPromotion with its parsed status.

    Attributes:
        document: The object as the API server returns it.
        state: Its status.
    """

    document: Document
    state: State

    @classmethod
    def read(cls, document: Document) -> ModelPromotion:
        """Parse an object.

        Raises:
            CommandError: the status has something that this version of the plugin does not know.
        """
        try:
            return cls(document, State.model_validate(document.get("status") or {}))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise CommandError(
                f"ModelPromotion {document['metadata']['name']}: status.{'.'.join(map(str, first['loc']))}: "
                f"{first['msg']}; the operator is newer than this plugin, so upgrade the plugin",
                FAILED,
            ) from error

    @property
    def namespace(self) -> str:
        """Return its namespace."""
        return str(self._metadata["namespace"])

    @property
    def name(self) -> str:
        """Return its name."""
        return str(self._metadata["name"])

    @property
    def created_at(self) -> float | None:
        """Return when it was created, in seconds since 1970."""
        found: float | None = to_seconds(self._metadata.get("creationTimestamp"))
        return found

    @property
    def resource_version(self) -> str:
        """Return the version of the object that this is."""
        return str(self._metadata.get("resourceVersion", ""))

    @property
    def action(self) -> str:
        """Return the manual action that the operator has not handled yet, "" if there is none."""
        return str((self._metadata.get("annotations") or {}).get(ACTION_ANNOTATION, ""))

    @property
    def is_current(self) -> bool:
        """Return whether the status is about the present spec."""
        return self.state.observed_generation >= int(self._metadata.get("generation", 0))

    @cached_property
    def parsed_spec(self) -> Spec | InvalidSpecError:
        """Return the spec, or what is wrong with it."""
        try:
            return parse_spec(self.document.get("spec"), self.state.target)
        except InvalidSpecError as error:
            return error

    @property
    def spec(self) -> Spec | None:
        """Return the spec, None if it is invalid."""
        return self.parsed_spec if isinstance(self.parsed_spec, Spec) else None

    @property
    def checks(self) -> tuple[Check, ...]:
        """Return the checks of the last analysis."""
        if self.state.analysis is None:
            return ()
        raw = self.document["status"]["analysis"].get("results") or []
        bounds = [_Bounds.model_validate(result) for result in raw]
        return tuple(
            Check(result, bound.lower, bound.upper)
            for result, bound in zip(self.state.analysis.results, bounds, strict=True)
        )

    @property
    def _metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["metadata"]
        return found


def collection_path(namespace: str | None) -> str:
    """Return the path of a namespace's ModelPromotions, None for those of all."""
    return f"{_BASE}/{PLURAL}" if namespace is None else f"{_BASE}/namespaces/{namespace}/{PLURAL}"


def bare_name(text: str) -> str:
    """Return the name in `mp/NAME` or `NAME`.

    Raises:
        CommandError: it is the name of another kind.
    """
    kind, slash, name = text.rpartition("/")
    if slash and kind.lower().removesuffix(f".{GROUP}") not in _KINDS:
        raise CommandError(f"{text!r} does not name a ModelPromotion; allowed: NAME or mp/NAME", USAGE)
    if not name:
        raise CommandError("the name of a ModelPromotion must not be empty", USAGE)
    return name


def find(kubectl: Kubectl, name: str | None) -> ModelPromotion:
    """Return the named ModelPromotion, or the only one of the namespace.

    Raises:
        CommandError: there is none or, without a name, more than one.
    """
    if name is not None:
        return ModelPromotion.read(kubectl.get(f"{collection_path(kubectl.namespace)}/{bare_name(name)}"))
    found = find_all(kubectl, everywhere=False)
    if len(found) == 1:
        return found[0]
    where = f"namespace {kubectl.namespace}"
    if not found:
        raise CommandError(
            f"no ModelPromotion in {where}; choose another namespace with -n, or `list -A` to see all", NOT_FOUND
        )
    names = ", ".join(promotion.name for promotion in found)
    raise CommandError(f"{where} has {len(found)} ModelPromotions; name one of {names}", USAGE)


def find_all(kubectl: Kubectl, *, everywhere: bool) -> list[ModelPromotion]:
    """Return the ModelPromotions of the namespace, or of all, by namespace and name.

    Raises:
        CommandError: they cannot be listed.
    """
    listing = kubectl.get(collection_path(None if everywhere else kubectl.namespace))
    return sorted_promotions(listing.get("items") or [])


def sorted_promotions(documents: Sequence[Document]) -> list[ModelPromotion]:
    """Parse objects and sort them by namespace and name."""
    found = map(ModelPromotion.read, documents)
    return sorted(found, key=lambda promotion: (promotion.namespace, promotion.name))
