"""The model contract, format versions 1 to 4, as docs/model-contract.md describes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

FLOAT32_MAX = 3.4028234e38
# Accepted beside the features: keeps an applicant on the same side of a canary.
APPLICANT_ID = "applicant_id"
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
# How the probability of default may change as a value, or an ordered category, rises; None for any way.
Direction = Literal["increasing", "decreasing"] | None


class ContractError(ValueError):
    """A contract that this service cannot serve; the message names the part and the reason."""


# Unset keys are those that a contract of an older version does not have; as unset, they are also not written.
class NumericFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    """A number with a unit; `minimum` and `maximum` are both allowed values.

    From version 3 on: whether it may be missing, numbers that mean that it is, and the range seen in training, to which
    the network clamps. From version 4 on: how the probability of default follows it, and what an adverse-action notice
    says of it.
    """

    name: NonEmpty
    unit: str
    minimum: float
    maximum: float
    description: str
    reason_code: NonEmpty
    protected: bool
    missing: bool | UnsetType = UNSET
    missing_values: tuple[float, ...] | UnsetType = UNSET
    training_minimum: float | UnsetType = UNSET
    training_maximum: float | UnsetType = UNSET
    monotonic: Direction | UnsetType = UNSET
    adverse_action: str | UnsetType = UNSET

    @property
    def training_range(self) -> tuple[float, float]:
        """The range seen in training; all allowed values if the contract does not say."""
        low, high = self.training_minimum, self.training_maximum
        return (
            self.minimum if isinstance(low, UnsetType) else low,
            self.maximum if isinstance(high, UnsetType) else high,
        )

    @property
    def accepts_unusual(self) -> bool:
        """Whether it accepts numbers outside the range seen in training."""
        return self.training_range != (self.minimum, self.maximum)


class CategoricalFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="categorical"):
    """One of a list of categories; a category's index is its code in the model's input.

    From version 3 on: whether it may be missing, texts that mean that it is, and whether any other text is accepted.
    From version 4 on: how the probability of default follows the order of the categories, and what an adverse-action
    notice says of it.
    """

    name: NonEmpty
    categories: Annotated[tuple[NonEmpty, ...], msgspec.Meta(min_length=1)]
    description: str
    reason_code: NonEmpty
    protected: bool
    missing: bool | UnsetType = UNSET
    missing_values: tuple[str, ...] | UnsetType = UNSET
    other: bool | UnsetType = UNSET
    monotonic: Direction | UnsetType = UNSET
    adverse_action: str | UnsetType = UNSET

    @property
    def missing_code(self) -> int:
        """The code of a value that is missing."""
        return len(self.categories)

    @property
    def other_code(self) -> int:
        """The code of a text that is not one of the categories."""
        return len(self.categories) + 1

    @property
    def accepts_unusual(self) -> bool:
        """Whether it accepts texts that are not one of the categories."""
        return bool(self.other)


Feature = NumericFeature | CategoricalFeature


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of scores between edges that increase from 0 to 1."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ProbabilityLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The least and the greatest probability of default that the calibration data supports; the network keeps them."""

    floor: float
    ceiling: float


class KsMaximum(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="ks_maximum"):
    """The threshold at which the Kolmogorov-Smirnov distance of defaults and repaid loans is greatest."""


class ApprovalRate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="approval_rate"):
    """The threshold that approves a share of the applications."""

    approval_rate: Share


class ExpectedCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="expected_cost"):
    """The threshold from which a loan's expected loss exceeds what it earns; both are shares of the loan."""

    loss_given_default: Annotated[float, msgspec.Meta(gt=0, le=1)]
    margin: Share


class Fixed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="fixed"):
    """A threshold that people chose."""


DecisionRule = KsMaximum | ApprovalRate | ExpectedCost | Fixed


class Grade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grade of the master scale, which ends where the next one begins."""

    name: NonEmpty
    upper_probability: Annotated[float, msgspec.Meta(gt=0, le=1)]
    expected_default_rate: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the service knows about a model except the network itself."""

    format_version: Literal[1, 2, 3, 4]
    model_name: NonEmpty
    features: Annotated[tuple[Feature, ...], msgspec.Meta(min_length=1)]
    reference_applicant: dict[str, float | str]
    score_histogram: Histogram
    decision_threshold: Share
    training_data_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    ignored: tuple[NonEmpty, ...] = ()
    probability_limits: ProbabilityLimits | UnsetType = UNSET
    decision_rule: DecisionRule | UnsetType = UNSET
    grades: tuple[Grade, ...] | UnsetType = UNSET
    default_rate: Share | UnsetType | None = UNSET

    @property
    def numeric(self) -> tuple[NumericFeature, ...]:
        """The numeric features, in the order of the model's columns."""
        return tuple(feature for feature in self.features if isinstance(feature, NumericFeature))

    @property
    def categorical(self) -> tuple[CategoricalFeature, ...]:
        """The categorical features, in the order of the model's columns."""
        return tuple(feature for feature in self.features if isinstance(feature, CategoricalFeature))

    @property
    def max_reasons(self) -> int:
        """The most reasons a request may ask for: one per field that clients of this or an older model send."""
        return len(self.features) + len(self.ignored)


# The format version from which on a contract, or each of its features, has a key; `ignored` is checked by itself.
_SINCE = {
    **dict.fromkeys(("missing", "missing_values", "training_minimum", "training_maximum", "other"), 3),
    "probability_limits": 3,
    **dict.fromkeys(("monotonic", "adverse_action", "decision_rule", "grades", "default_rate"), 4),
}


class _IgnoredKey(msgspec.Struct):
    ignored: msgspec.Raw | UnsetType = UNSET


def read_contract(file: Path) -> Contract:
    """Read and check a contract.json; one of version 1 is returned as version 2 without ignored fields.

    Raises:
        ContractError: If it is not a contract of a known format version, or contradicts itself.
    """
    try:
        document = file.read_bytes()
        contract = msgspec.json.decode(document, type=Contract)
        has_ignored = msgspec.json.decode(document, type=_IgnoredKey).ignored is not UNSET
    except msgspec.MsgspecError as error:
        raise ContractError(f"{file.name} is not a contract of format version 1, 2, 3 or 4: {error}") from error
    if rule := next(_wrong_keys(contract, has_ignored=has_ignored), None):
        raise ContractError(f"{file.name}: format version {contract.format_version} {rule}")
    if problem := next(_contradictions(contract), None):
        raise ContractError(f"{file.name} contradicts itself: {problem}")
    return msgspec.structs.replace(contract, format_version=max(contract.format_version, 2))


def _wrong_keys(contract: Contract, *, has_ignored: bool) -> Iterator[str]:
    """Yield the keys that a contract has or lacks against the rules of its format version."""
    if has_ignored != (contract.format_version >= 2):
        yield "has no key `ignored`" if has_ignored else "requires the key `ignored`"
    parts = [("", contract), *((f"{feature.name}: ", feature) for feature in contract.features)]
    for where, part in parts:
        for key in (key for key in part.__struct_fields__ if key in _SINCE):
            has_key = getattr(part, key) is not UNSET
            if has_key != (contract.format_version >= _SINCE[key]):
                yield f"{'has no' if has_key else 'requires the'} key `{key}`" + (f" in {where[:-2]}" if where else "")


def _contradictions(contract: Contract) -> Iterator[str]:
    names = [feature.name for feature in contract.features]
    yield from (f"feature {name} appears twice" for name in set(names) if names.count(name) > 1)
    yield from (f"feature {name}: the name is reserved" for name in names if name == APPLICANT_ID)
    yield from _ignored_contradictions(contract, names)
    for number in contract.numeric:
        yield from _number_contradictions(number)
    for word in contract.categorical:
        yield from _category_contradictions(word)
    if set(contract.reference_applicant) != set(names):
        yield "reference_applicant and features have different names"
    for feature in contract.features:
        if contract.reference_applicant.get(feature.name) in (feature.missing_values or ()):
            yield f"{feature.name}: the reference applicant's value means missing"
    limits = contract.probability_limits
    if not isinstance(limits, UnsetType) and not 0 < limits.floor < limits.ceiling < 1:
        yield f"probability_limits: 0 < {limits.floor} < {limits.ceiling} < 1 does not hold"
    yield from _histogram_contradictions(contract.score_histogram)
    yield from _grade_contradictions(contract.grades or ())


def _number_contradictions(number: NumericFeature) -> Iterator[str]:
    if number.minimum > number.maximum:
        yield f"{number.name}: minimum {number.minimum} is above maximum {number.maximum}"
    if max(abs(number.minimum), abs(number.maximum)) > FLOAT32_MAX:
        yield f"{number.name}: the range exceeds the float32 of the model's input"
    low, high = number.training_range
    if not number.minimum <= low <= high <= number.maximum:
        yield f"{number.name}: training range {low} to {high} is not within {number.minimum} to {number.maximum}"
    yield from _missing_value_contradictions(number)


def _category_contradictions(word: CategoricalFeature) -> Iterator[str]:
    if len(set(word.categories)) < len(word.categories):
        yield f"{word.name}: a category appears twice"
    for value in set(word.missing_values or ()).intersection(word.categories):
        yield f"{word.name}: {value} is a category and means missing"
    yield from _missing_value_contradictions(word)


def _missing_value_contradictions(feature: Feature) -> Iterator[str]:
    values: Sequence[object] = feature.missing_values or ()
    if values and not feature.missing:
        yield f"{feature.name}: has missing_values although it may not be missing"
    if len(set(values)) < len(values):
        yield f"{feature.name}: a missing value appears twice"


def _ignored_contradictions(contract: Contract, names: list[str]) -> Iterator[str]:
    for name in contract.ignored:
        if name in names:
            yield f"ignored field {name} is also a feature"
        if name == APPLICANT_ID:
            yield f"ignored field {name}: the name is reserved"
        if contract.ignored.count(name) > 1:
            yield f"ignored field {name} appears twice"


def _histogram_contradictions(histogram: Histogram) -> Iterator[str]:
    edges, counts = histogram.edges, histogram.counts
    if any(upper <= lower for lower, upper in itertools.pairwise(edges)):
        yield "score_histogram.edges do not increase"
    if len(edges) != len(counts) + 1:
        yield "score_histogram must have one more edge than counts"


def _grade_contradictions(grades: Sequence[Grade]) -> Iterator[str]:
    names = [grade.name for grade in grades]
    yield from (f"grades: {name} appears twice" for name in sorted(set(names)) if names.count(name) > 1)
    if any(worse.upper_probability <= better.upper_probability for better, worse in itertools.pairwise(grades)):
        yield "grades: upper_probability does not increase"
    if grades and grades[-1].upper_probability < 1:
        yield f"grades: the last one ends at {grades[-1].upper_probability}, not at 1"
