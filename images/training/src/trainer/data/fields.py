"""Field types of the feature declaration."""

import datetime as dt
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

# Beside the features, an application may hold this field; the service keeps the name for itself.
RESERVED_NAMES = frozenset({"applicant_id"})
# The service compares an application's keys as they are written, and these are written escaped.
UNREADABLE_IN_KEYS = frozenset('"\\')
# Regulation B, 12 CFR 1002.9(b)(2): that an applicant failed to reach a score, or a creditor's standards, is no reason.
_NO_REASON = re.compile(
    r"\b(scor(?:e[ds]?|ing)|scorecards?|probability of default|internal (?:standards?|polic(?:y|ies)|criteria))\b",
    re.IGNORECASE,
)


def _as_text(value: object) -> object:
    """Return a label or category that JSON holds as a number or boolean as its text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _usable_as_name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError(
            f"{name}: the service keeps this name for itself; rename the feature, or do not list it as ignored"
        )
    if not name.isprintable():
        raise ValueError(f"{name!r}: a name must not contain control characters")
    if UNREADABLE_IN_KEYS.intersection(name):
        raise ValueError(
            f"{name}: a name must not contain quotation marks or backslashes, which the service cannot read in an "
            "application's keys; rename the column"
        )
    return name


def _names_what_led_to_the_decline(text: str) -> str:
    text = " ".join(text.split())
    if not text.isprintable():
        raise ValueError(f"{text!r}: an adverse-action text must not contain control characters")
    if found := _NO_REASON.search(text):
        raise ValueError(
            f'"{text}" speaks about "{found[0]}": an adverse-action text names what about the feature led to the '
            'decline, such as "Your debt-to-income ratio is too high"; that a score was too low, or a standard not '
            "met, is no reason (Regulation B, 12 CFR 1002.9(b)(2))"
        )
    return text


def _format_of_dates(form: str) -> str:
    try:
        dt.datetime.strptime(dt.datetime(2026, 1, 31, tzinfo=dt.UTC).strftime(form), form)  # noqa: DTZ007
    except ValueError as error:
        raise ValueError(f"{form!r} is not a format of strptime, such as %d.%m.%Y: {error}") from error
    return form


Direction = Literal["increasing", "decreasing"]
AdverseAction = Annotated[str, AfterValidator(_names_what_led_to_the_decline)]
Label = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
Labels = Annotated[tuple[Label, ...], BeforeValidator(_as_list)]
ColumnName = Annotated[str, Field(min_length=1)]
DateFormat = Annotated[str, AfterValidator(_format_of_dates)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_usable_as_name)]


class Strict(BaseModel):
    """A part of the declaration: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
