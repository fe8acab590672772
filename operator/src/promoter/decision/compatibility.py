"""Whether a canary can answer everything that the champion's clients send.

The rule is the one of docs/model-contract.md; training and this module are tested against the same cases,
contracts/cases/compatibility.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    # Format versions 1 and 2 do not have it: nothing may be missing.
    missing: bool = False
    # Format versions 1 to 3 do not have it: the probability of default may follow the value in any way.
    monotonic: Literal["increasing", "decreasing"] | None = None


class NumericFeature(_Feature):
    """A number in a unit; `minimum` and `maximum` are both allowed."""

    kind: Literal["numeric"]
    unit: str
    minimum: float
    maximum: float
    missing_values: tuple[float, ...] = ()


class CategoricalFeature(_Feature):
    """One of a list of categories; with `other`, every other text is accepted too."""

    kind: Literal["categorical"]
    categories: tuple[str, ...]
    missing_values: tuple[str, ...] = ()
    other: bool = False


Feature = NumericFeature | CategoricalFeature


class Grade(_Part):
    """A grade of the master scale; answers have its name."""

    name: str


class Contract(_Part):
    """The part of a model contract that says which requests the model accepts, and what its answers promise."""

    format_version: Literal[1, 2, 3, 4]
    features: tuple[Annotated[Feature, Field(discriminator="kind")], ...]
    # Fields of older models that the service accepts and discards; format version 1 has none.
    ignored: tuple[str, ...] | None = None
    # Format versions 1 to 3 do not have them: answers have no grade.
    grades: tuple[Grade, ...] = ()

    @model_validator(mode="after")
    def _later_versions_list_ignored_fields(self) -> Self:
        if self.format_version > 1 and self.ignored is None:
            raise ValueError(f"`ignored` is required in format version {self.format_version}")
        return self

    @model_validator(mode="after")
    def _later_versions_say_what_may_be_missing_and_which_way_scores_go(self) -> Self:
        for feature in self.features if self.format_version > 2 else ():
            required = {"missing", "missing_values"} | ({"other"} if feature.kind == "categorical" else set())
            required |= {"monotonic"} if self.format_version > 3 else set()
            if absent := sorted(required - feature.model_fields_set):
                raise ValueError(f"{feature.name}: `{absent[0]}` is required in format version {self.format_version}")
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
        elif feature.name in (champion.ignored or ()):
            detail = "clients may send any value for it; train without it"
            found.append(Problem(feature.name, "feature-added", detail))
        elif not feature.missing:
            detail = "clients do not send it; train without it, or allow it to be missing"
            found.append(Problem(feature.name, "feature-added", detail))
    still_accepted = set(challenger.accepted)
    dropped = map(_dropped, (name for name in champion.accepted if name not in still_accepted))
    return (*found, *dropped, *_changed_grades(champion.grades, challenger.grades))


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
            yield from _changed_missing(old, new)
            yield from _changed_direction(old, new)
        case CategoricalFeature(), CategoricalFeature():
            yield from _changed_categories(old, new)
            yield from _changed_missing(old, new)
            yield from _changed_direction(old, new)
            yield from _changed_order(old, new)
        case _:
            yield Problem(new.name, "kind-changed", f"{old.kind} in the champion, {new.kind} in the canary")
    if old.reason_code != new.reason_code:
        detail = f"{old.reason_code} in the champion, {new.reason_code} in the canary; reason codes must stay"
        yield Problem(new.name, "reason-code-changed", detail)


def _changed_grades(old: Sequence[Grade], new: Sequence[Grade]) -> Iterator[Problem]:
    """Compare the names of grades; clients of a champion without grades get none, and need none."""
    before, now = ([grade.name for grade in grades] for grades in (old, new))
    if before and (not now or now != [name for name in before if name in now]):
        detail = (f"{', '.join(before)} in the champion, {', '.join(now) or 'none'} in the canary; declare grades with "
                  "the champion's names, in their order")  # fmt: skip
        yield Problem("grades", "grades-changed", detail)


def _changed_number(old: NumericFeature, new: NumericFeature) -> Iterator[Problem]:
    if old.unit != new.unit:
        yield Problem(new.name, "unit-changed", f"{old.unit} in the champion, {new.unit} in the canary")
    if new.minimum > old.minimum or new.maximum < old.maximum:
        detail = (f"the canary accepts {new.minimum:g} to {new.maximum:g}, the champion {old.minimum:g} to "
                  f"{old.maximum:g}; keep at least the champion's range")  # fmt: skip
        yield Problem(new.name, "range-narrowed", detail)


def _changed_categories(old: CategoricalFeature, new: CategoricalFeature) -> Iterator[Problem]:
    if new.other:
        return
    accepted = {*new.categories, *new.missing_values}
    if refused := [category for category in old.categories if category not in accepted]:
        detail = f"the canary refuses {', '.join(refused)}; keep every category of the champion"
        yield Problem(new.name, "category-removed", detail)
    if old.other:
        detail = "the canary refuses categories outside its list, the champion does not; declare `other` for it"
        yield Problem(new.name, "other-refused", detail)


def _changed_missing(old: Feature, new: Feature) -> Iterator[Problem]:
    if old.missing and not new.missing:
        detail = "it may be missing for the champion, not for the canary; declare `missing` as `allowed`"
        yield Problem(new.name, "missing-refused", detail)
    elif removed := [str(value) for value in old.missing_values if value not in new.missing_values]:
        detail = f"{', '.join(removed)} means missing for the champion only; keep it under `missing_values`"
        yield Problem(new.name, "missing-value-removed", detail)


def _changed_direction(old: Feature, new: Feature) -> Iterator[Problem]:
    if old.monotonic not in (None, new.monotonic):
        detail = (f"{old.monotonic} in the champion, {new.monotonic or 'unconstrained'} in the canary; declare "
                  f"`monotonic` as `{old.monotonic}`")  # fmt: skip
        yield Problem(new.name, "monotonicity-dropped", detail)


def _changed_order(old: CategoricalFeature, new: CategoricalFeature) -> Iterator[Problem]:
    """Compare the order of the categories where both models promise to follow one."""
    if old.monotonic is None or old.monotonic != new.monotonic:
        return
    kept = [category for category in old.categories if category in new.categories]
    if kept != [category for category in new.categories if category in kept]:
        detail = f"the champion's order is {', '.join(kept)}, the canary has another; keep the champion's"
        yield Problem(new.name, "monotonicity-dropped", detail)
    elif outside := [name for name in old.categories if name not in kept and (new.other or name in new.missing_values)]:
        detail = f"{', '.join(outside)} is no part of the canary's order; keep every category of the champion"
        yield Problem(new.name, "monotonicity-dropped", detail)
