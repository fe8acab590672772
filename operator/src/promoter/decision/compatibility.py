"""Whether a canary can answer what the champion's clients send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ContractError(ValueError):
    """What a pod calls its contract is none."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class NumericFeature(_Part):
    """A number; `minimum` and `maximum` are both allowed."""

    kind: Literal["numeric"]
    name: str
    minimum: float
    maximum: float


class CategoricalFeature(_Part):
    """One of some words."""

    kind: Literal["categorical"]
    name: str
    categories: tuple[str, ...]


Feature = NumericFeature | CategoricalFeature


class Contract(_Part):
    """What of a model's contract is compared: which requests it takes."""

    features: tuple[Annotated[Feature, Field(discriminator="kind")], ...]


def read_contract(document: Mapping[str, Any]) -> Contract:
    """Return a contract as /v1/model gives it.

    Raises:
        ContractError: it says not what it takes; the message names the field.
    """
    try:
        return Contract.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ContractError(f"contract.{where}: {first['msg']}") from error


def misfit(champion: Contract, canary: Contract) -> str:
    """Return how a canary's contract refuses requests that the champion's accepts, "" where it does not."""
    ours = {feature.name: feature for feature in champion.features}
    theirs = {feature.name: feature for feature in canary.features}
    if missing := sorted(theirs.keys() - ours.keys()):
        return f"the canary asks for {', '.join(missing)}, which clients do not send"
    if surplus := sorted(ours.keys() - theirs.keys()):
        return f"the canary does not know {', '.join(surplus)}, which clients send"
    return next(filter(None, (_narrower(ours[name], theirs[name]) for name in ours)), "")


def _narrower(ours: Feature, theirs: Feature) -> str:
    match ours, theirs:
        case CategoricalFeature(), CategoricalFeature():
            unknown = [category for category in ours.categories if category not in theirs.categories]
            return f"the canary refuses {ours.name} = {', '.join(unknown)}" if unknown else ""
        case NumericFeature(), NumericFeature():
            if ours.minimum < theirs.minimum or ours.maximum > theirs.maximum:
                return (f"the canary takes {ours.name} from {theirs.minimum:g} to {theirs.maximum:g} only, "
                        f"the champion from {ours.minimum:g} to {ours.maximum:g}")  # fmt: skip
            return ""
    return f"{ours.name} is {theirs.kind} in the canary and {ours.kind} in the champion"
