"""Whether a canary can answer everything that the champion's clients send.

The rule is the one of docs/model-contract.md; training and this module are tested against the same cases,
contracts/cases/compatibility.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class ContractError(ValueError):
    """A document is not a model contract; the message names the field."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Feature(_Part):
    name: str
    reason_code: str


class NumericFeature(_Feature):
    """A number in a unit; `minimum` and `maximum` are both allowed."""

    kind: Literal["numeric"]
    unit: str
    minimum: float
    maximum: float


class CategoricalFeature(_Feature):
    """One of a closed list of categories."""

    kind: Literal["categorical"]
    categories: tuple[str, ...]


Feature = NumericFeature | CategoricalFeature


class Contract(_Part):
    """The part of a model contract that says which requests the model accepts."""

    format_version: Literal[1, 2]
    features: tuple[Annotated[Feature, Field(discriminator="kind")], ...]
    # Fields of older models that the service accepts and discards; format version 1 has none.
    ignored: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _version_2_lists_ignored_fields(self) -> Self:
        if self.format_version == 2 and self.ignored is None:
            raise ValueError("`ignored` is required in format version 2")
        return self

    @property
    def accepted(self) -> tuple[str, ...]:
        """Return the names of all fields that clients may send."""
        return (*(feature.name for feature in self.features), *(self.ignored or ()))


@dataclass(frozen=True)
class Problem:
    """One reason why clients of the champion cannot use the challenger, with a machine-readable code."""

    feature: str
    code: str
    detail: str

    def __str__(self) -> str:
        """Return the problem as messages show it."""
        return f"{self.feature}: {self.code}: {self.detail}"


def read_contract(document: Mapping[str, Any]) -> Contract:
    """Parse a contract as /v1/model returns it.

    Raises:
        ContractError: the document does not say which requests it accepts; the message names the field.
    """
    try:
        return Contract.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(("contract", *map(str, first["loc"])))
        raise ContractError(f"{where}: {first['msg']}") from error


def problems(champion: Contract, challenger: Contract) -> tuple[Problem, ...]:
    """Return why clients of the champion cannot use the challenger; nothing if they can."""
    known = {feature.name: feature for feature in champion.features}
    found: list[Problem] = []
    for feature in challenger.features:
        if feature.name in known:
            found += _changed(known[feature.name], feature)
        else:
            found.append(Problem(feature.name, "feature-added", "clients do not send it; train without it"))
    still_accepted = set(challenger.accepted)
    return (*found, *map(_dropped, (name for name in champion.accepted if name not in still_accepted)))


def describe(found: Iterable[Problem]) -> str:
    """Return problems as one message."""
    return "; ".join(map(str, found))


def _dropped(name: str) -> Problem:
    detail = "clients still send it; list it under `ignored` in the feature declaration"
    return Problem(name, "feature-dropped", detail)


def _changed(old: Feature, new: Feature) -> Iterator[Problem]:
    match old, new:
        case NumericFeature(), NumericFeature():
            yield from _changed_number(old, new)
        case CategoricalFeature(), CategoricalFeature():
            if missing := [category for category in old.categories if category not in new.categories]:
                detail = f"the canary refuses {', '.join(missing)}; keep every category of the champion"
                yield Problem(new.name, "category-removed", detail)
        case _:
            yield Problem(new.name, "kind-changed", f"{old.kind} in the champion, {new.kind} in the canary")
    if old.reason_code != new.reason_code:
        detail = f"{old.reason_code} in the champion, {new.reason_code} in the canary; reason codes must stay"
        yield Problem(new.name, "reason-code-changed", detail)


def _changed_number(old: NumericFeature, new: NumericFeature) -> Iterator[Problem]:
    if old.unit != new.unit:
        yield Problem(new.name, "unit-changed", f"{old.unit} in the champion, {new.unit} in the canary")
    if new.minimum > old.minimum or new.maximum < old.maximum:
        detail = (f"the canary accepts {new.minimum:g} to {new.maximum:g}, the champion {old.minimum:g} to "
                  f"{old.maximum:g}; keep at least the champion's range")  # fmt: skip
        yield Problem(new.name, "range-narrowed", detail)
