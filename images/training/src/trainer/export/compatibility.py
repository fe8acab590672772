"""Whether clients of one model can keep sending what they send to another (see docs/model-contract.md)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from trainer.export.contract import CategoricalContract, Contract, FeatureContract, NumericContract


class Code(StrEnum):
    """Why a challenger is incompatible with a champion."""

    FEATURE_ADDED = "feature-added"
    FEATURE_DROPPED = "feature-dropped"
    KIND_CHANGED = "kind-changed"
    UNIT_CHANGED = "unit-changed"
    RANGE_NARROWED = "range-narrowed"
    CATEGORY_REMOVED = "category-removed"
    OTHER_REFUSED = "other-refused"
    MISSING_REFUSED = "missing-refused"
    MISSING_VALUE_REMOVED = "missing-value-removed"
    MONOTONICITY_DROPPED = "monotonicity-dropped"
    REASON_CODE_CHANGED = "reason-code-changed"
    GRADES_CHANGED = "grades-changed"


REMEDIES = {
    Code.FEATURE_ADDED: "remove it from the feature declaration, or allow it to be missing",
    Code.FEATURE_DROPPED: "list it under `ignored` in the feature declaration",
    Code.KIND_CHANGED: "declare it with the old kind, or under a new name",
    Code.UNIT_CHANGED: "declare it with the old unit, or under a new name",
    Code.RANGE_NARROWED: "declare a range that includes the old one",
    Code.CATEGORY_REMOVED: "keep the category in the feature declaration",
    Code.OTHER_REFUSED: "declare `other` for it",
    Code.MISSING_REFUSED: "declare it with `missing` as `allowed`",
    Code.MISSING_VALUE_REMOVED: "keep the value under `missing_values`",
    Code.MONOTONICITY_DROPPED: "declare the old `monotonic`, and the old categories in their order",
    Code.REASON_CODE_CHANGED: "declare the old reason code",
    Code.GRADES_CHANGED: "declare grades with the old names, in their order",
}


@dataclass(frozen=True)
class Incompatibility:
    """One way in which the challenger would refuse or mislead the champion's clients.

    Attributes:
        feature: The feature or ignored field, or `grades` for the master scale.
        code: What changed.
        detail: The old and the new value, for people.
    """

    feature: str
    code: Code
    detail: str

    def __str__(self) -> str:
        return f"{self.feature}: {self.code}: {self.detail}; {REMEDIES[self.code]}"


def incompatibilities(champion: Contract, challenger: Contract) -> tuple[Incompatibility, ...]:
    """Compare two contracts; the challenger is compatible if nothing is returned.

    Returns:
        The challenger's features in their order, then the champion's dropped features and ignored fields in theirs,
        then the master scale.
    """
    known = {feature.name: feature for feature in champion.features}
    found: list[Incompatibility] = []
    for feature in challenger.features:
        before = known.get(feature.name)
        if before is not None:
            found += (Incompatibility(feature.name, code, detail) for code, detail in _changes(before, feature))
        elif feature.name in champion.ignored:
            found.append(Incompatibility(feature.name, Code.FEATURE_ADDED, "clients may send any value for it"))
        elif not feature.missing:
            found.append(Incompatibility(feature.name, Code.FEATURE_ADDED, "clients do not send it yet"))
    accepted = {*(feature.name for feature in challenger.features), *challenger.ignored}
    found += (
        Incompatibility(name, Code.FEATURE_DROPPED, "clients still send it")
        for name in (*known, *champion.ignored)
        if name not in accepted
    )
    found += _grade_changes([grade.name for grade in champion.grades], [grade.name for grade in challenger.grades])
    return tuple(found)


def _grade_changes(before: list[str], now: list[str]) -> Iterator[Incompatibility]:
    """Compare the names of grades; clients of a champion without grades get none, and need none."""
    if before and (not now or now != [name for name in before if name in now]):
        detail = f"were {', '.join(before)}, are {', '.join(now) or 'none'}"
        yield Incompatibility("grades", Code.GRADES_CHANGED, detail)


def _changes(before: FeatureContract, now: FeatureContract) -> Iterator[tuple[Code, str]]:
    if isinstance(before, NumericContract) and isinstance(now, NumericContract):
        yield from _numeric_changes(before, now)
        yield from _missing_changes(before, now)
        yield from _direction_changes(before, now)
    elif isinstance(before, CategoricalContract) and isinstance(now, CategoricalContract):
        yield from _categorical_changes(before, now)
        yield from _missing_changes(before, now)
        yield from _direction_changes(before, now)
        yield from _order_changes(before, now)
    else:
        yield Code.KIND_CHANGED, f"was {before.kind}, is {now.kind}"
    if before.reason_code != now.reason_code:
        yield Code.REASON_CODE_CHANGED, f"was {before.reason_code}, is {now.reason_code}"


def _numeric_changes(before: NumericContract, now: NumericContract) -> Iterator[tuple[Code, str]]:
    if before.unit != now.unit:
        yield Code.UNIT_CHANGED, f"was {before.unit}, is {now.unit}"
    if now.minimum > before.minimum or now.maximum < before.maximum:
        yield (
            Code.RANGE_NARROWED,
            f"was {before.minimum:g} to {before.maximum:g}, is {now.minimum:g} to {now.maximum:g}",
        )


def _categorical_changes(before: CategoricalContract, now: CategoricalContract) -> Iterator[tuple[Code, str]]:
    accepted = {*now.categories, *now.missing_values}
    if not now.other and (removed := [category for category in before.categories if category not in accepted]):
        yield Code.CATEGORY_REMOVED, f"no longer allowed: {', '.join(removed)}"
    if before.other and not now.other:
        yield Code.OTHER_REFUSED, "categories outside the list are no longer allowed"


def _missing_changes(before: FeatureContract, now: FeatureContract) -> Iterator[tuple[Code, str]]:
    if before.missing and not now.missing:
        yield Code.MISSING_REFUSED, "it may no longer be missing"
    elif removed := [str(value) for value in before.missing_values if value not in now.missing_values]:
        yield Code.MISSING_VALUE_REMOVED, f"no longer mean missing: {', '.join(removed)}"


def _direction_changes(before: FeatureContract, now: FeatureContract) -> Iterator[tuple[Code, str]]:
    if before.monotonic not in (None, now.monotonic):
        yield Code.MONOTONICITY_DROPPED, f"was {before.monotonic}, is {now.monotonic or 'unconstrained'}"


def _order_changes(before: CategoricalContract, now: CategoricalContract) -> Iterator[tuple[Code, str]]:
    """Compare the order of the categories where both models promise to follow one."""
    if before.monotonic is None or before.monotonic != now.monotonic:
        return
    kept = [category for category in before.categories if category in now.categories]
    if kept != [category for category in now.categories if category in kept]:
        yield Code.MONOTONICITY_DROPPED, f"the categories were in the order {', '.join(kept)}"
    elif outside := [
        name for name in before.categories if name not in kept and (now.other or name in now.missing_values)
    ]:
        yield Code.MONOTONICITY_DROPPED, f"no longer part of the order: {', '.join(outside)}"
