"""The text of single cells: which means missing, and which number, age, category or label another one is."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.data.declaration import Parse

# Cells with this text hold no value, unless the declaration lists it as a category or label.
MISSING = ("", "NA", "N/A", "NaN", "null", "NULL", "None", "-", "?", ".")
TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})

_MINUS = "\u2212"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
# Groups of three digits, separated by a comma, point, apostrophe, or one of the spaces.
_GROUPED = re.compile(r"([+-]?)(?:[$\u20ac\u00a3]\s?)?(\d{1,3}(?:([,.'\u2019 \u00a0\u202f])\d{3})(?:\3\d{3})*)(\D\d*)?")
_CURRENCY = re.compile(r"^([+-]?)[$\u20ac\u00a3]\s?")
_MONTHS = re.compile(
    r"(?:(\d+(?:\.\d+)?)\s*y(?:ea)?r?s?\.?)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:on|o|onth)?s?\.?)?", re.ASCII | re.IGNORECASE
)
_INTEGER_AS_FLOAT = re.compile(r"(-?\d+)\.0+", re.ASCII)


def number(text: str, decimal: str = ".") -> float:
    """Return the number that a text is, or NaN. The minus sign of typesetters is one, too."""
    text = text.strip().replace(_MINUS, "-")
    if decimal == ",":
        # A point would separate groups of digits, which only `thousands` allows.
        text = text.translate({ord(","): ".", ord("."): "x"})
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def percent(text: str, decimal: str = ".") -> float:
    """Return 13.5 for "13.5%", "13.5 %" and "13.5", or NaN."""
    return number(text.strip().removesuffix("%"), decimal)


def thousands(text: str, decimal: str = ".") -> float:
    """Return 1234.5 for "1,234.5", "$1,234.50", "1'234.5" and "1234.5", -1234 for "(1,234)", or NaN."""
    text = text.strip().replace(_MINUS, "-")
    if text.startswith("(") and text.endswith(")"):
        inside = thousands(text[1:-1], decimal)
        return -inside if inside >= 0 else math.nan
    grouped = _GROUPED.fullmatch(text)
    if grouped and grouped[3] != decimal:
        text = f"{grouped[1]}{grouped[2].replace(grouped[3], '')}{grouped[4] or ''}"
    return number(_CURRENCY.sub(r"\1", text), decimal)


def months(text: str, decimal: str = ".") -> float:
    """Return 36 for "36 months", "36", "3 years" and "2yrs 12mon", or NaN."""
    plain = number(text, decimal)
    if not math.isnan(plain):
        return plain
    parts = _MONTHS.fullmatch(text.strip())
    if not parts or not any(parts.groups()):
        return math.nan
    return 12 * float(parts[1] or 0) + float(parts[2] or 0)


_PARSERS: dict[Parse | None, Callable[[str, str], float]] = {
    None: number,
    Parse.PERCENT: percent,
    Parse.THOUSANDS: thousands,
    Parse.MONTHS: months,
}


def are_booleans(texts: Sequence[str]) -> bool:
    """Return whether the distinct texts of a column, at least one, are all booleans."""
    words = {text.strip().lower() for text in texts}
    return bool(words) and words <= TRUE | FALSE


def numbers(texts: Sequence[str], parse: Parse | None, *, decimal: str = ".") -> npt.NDArray[np.float64]:
    """Return the numbers that the distinct texts of a column are; NaN for any that is none.

    If all texts are booleans ("true", "yes", "0"), they are 1 and 0.
    """
    if parse is None and are_booleans(texts):
        return np.array([text.strip().lower() in TRUE for text in texts], dtype=np.float64)
    return np.array([_PARSERS[parse](text, decimal) for text in texts], dtype=np.float64)


def parse_that_reads(texts: Iterable[str], *, decimal: str = ".") -> Parse | None:
    """Return the first way of parsing that reads all texts, or None."""
    found = list(texts)
    for parse in (Parse.PERCENT, Parse.MONTHS, Parse.THOUSANDS):
        if not any(math.isnan(_PARSERS[parse](text, decimal)) for text in found):
            return parse
    return Parse.DATE if dates(found, "").notna().all() else None


def dates(texts: Sequence[str], form: str) -> pd.Series:
    """Return the dates that texts are, NaT for any that is none; `form` is strptime's, "" for ISO 8601."""
    trimmed = pd.Series([text.strip() for text in texts], dtype=object)
    return pd.to_datetime(trimmed, format=form or "ISO8601", errors="coerce", utc=True).dt.tz_localize(None)


def completed_months(since: pd.Series, until: pd.Series) -> npt.NDArray[np.float64]:
    """Return the months completed between dates of the same rows; NaN if either is missing."""
    whole = 12 * (until.dt.year - since.dt.year) + (until.dt.month - since.dt.month)
    completed = (whole - (until.dt.day < since.dt.day)).to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(completed, dtype=np.float64)


def category_of(text: str, allowed: frozenset[str], *, trim: bool) -> str:
    """Return the category that a text is, or the text itself.

    "1.0" is the category 1, because integers with missing values are written like that, and "True" is the category
    true. "01" is not 1.
    """
    if trim:
        text = text.strip()
    if text in allowed:
        return text
    if (integer := _INTEGER_AS_FLOAT.fullmatch(text)) and integer[1] in allowed:
        return integer[1]
    if text.lower() in {"true", "false"}:
        return next((word for word in sorted(allowed) if word.lower() == text.lower()), text)
    return text


def label_of(text: str, labels: frozenset[str], *, trim: bool) -> str:
    """Return the label that a text is, or the text itself.

    Unlike categories, labels that are numbers match by value: "01", "1.0" and "true" are the label 1.
    """
    found = category_of(text, labels, trim=trim)
    if found in labels:
        return found
    word = found.strip().lower()
    value = {"true": 1.0, "false": 0.0}.get(word, number(word))
    return next((label for label in sorted(labels) if number(label) == value), found)
