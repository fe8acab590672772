"""Propose a feature declaration from a data file, for a person to edit, with what needs that person's attention."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from trainer.data import cells, names
from trainer.data.declaration import LARGEST_NUMBER, FeatureDeclaration, Parse
from trainer.data.fields import RESERVED_NAMES, UNREADABLE_IN_KEYS
from trainer.data.file_format import FileFormat
from trainer.data.reading import Undeclared, read_as_text
from trainer.errors import BadInputError

_MAXIMUM_CATEGORIES = 100
_SHOWN = 5
_WITH_DECIMALS = (None, Parse.PERCENT, Parse.THOUSANDS)
_RARE_ROWS = 20
_LEAK_AUC = 0.98
_DATE_FORMATS = ("", "%b-%Y", "%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d-%b-%Y", "%Y%m%d")
_SENTINELS = frozenset({-9999.0, -999.0, -99.0, -9.0, -1.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, 99999999.0})


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Attributes:
        name: Its name.
        rows: Number of rows.
        missing: How many of them have no value.
        texts: The distinct values as text.
        counts: How many rows have each.
        numbers: The distinct values as numbers, if all are.
        parse: How text became those numbers.
        date_format: strptime's format, if they are dates.
        wrong: The texts that keep a column from being numeric, if most are numbers.
    """

    name: str
    rows: int
    missing: int
    texts: tuple[str, ...] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)
    numbers: npt.NDArray[np.float64] | None = field(default=None, repr=False)
    parse: Parse | None = None
    date_format: str = ""
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """A proposed declaration, as JSON, and what a person has to look at, in words."""

    declaration: dict[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """Return both as one JSON object, for machines."""
        return json.dumps(asdict(self))


def describe(source: str, *, target: str = "", scratch: Path) -> Proposal:
    """Propose a declaration for a file.

    Args:
        source: A path or URL of a CSV or Parquet file.
        target: The column with the outcome; "" to guess it.
        scratch: Folder for a downloaded file, which is deleted after reading.

    Raises:
        BadInputError: The file cannot be read, or its outcome cannot be told.
    """
    found = _read(source, scratch)
    file, frame = found.file, found.frame
    columns = [_column(frame[name], file) for name in frame.columns]
    outcome, target_warnings = _target(columns, target, source)
    defaulted = _defaulted(frame[outcome["column"]], outcome)
    left_out = (f"{name}: left out: it holds {kind}, not single values" for name, kind in found.skipped.items())
    warnings = [*_file_warnings(file), *target_warnings, *left_out]
    features: list[dict[str, Any]] = []
    id_column = None
    for column in columns:
        if column.name == outcome["column"]:
            continue
        if reason := _unusable(column, frame[column.name], defaulted):
            shown = column.name if column.name.isprintable() else repr(column.name)
            warnings.append(f"{shown}: left out: {reason}")
            if id_column is None and "identifier" in reason and not column.missing:
                id_column = column.name
            continue
        features.append(_feature(column, f"R{len(features) + 1:02}"))
        warnings += (f"{column.name}: {text}" for text in _remarks(column))
    if not features:
        raise BadInputError(f"{source}: no column is left to learn from: {'; '.join(warnings)}")
    declaration: dict[str, Any] = {"target": outcome, "features": features}
    if id_column is not None:
        declaration = {"id_column": id_column, **declaration}
    if written := file.model_dump(mode="json", exclude_defaults=True):
        declaration = {"file": written, **declaration}
    FeatureDeclaration.model_validate_json(json.dumps(declaration))
    return Proposal(declaration, tuple(warnings))


def _read(source: str, scratch: Path) -> Undeclared:
    found = read_as_text(source, scratch=scratch)
    delimiter, frame = found.delimiter, found.frame
    changes: dict[str, object] = {}
    if delimiter not in {"", ","} and _has_decimal_commas(frame):
        changes["decimal"] = ","
    padded = any(name != name.strip() for name in frame.columns) or any(
        text != text.strip() for name in frame.columns for text in frame[name].cat.categories[:_MAXIMUM_CATEGORIES]
    )
    if delimiter and padded:
        changes["trim"] = True
        frame = frame.rename(columns=str.strip)
    return replace(found, file=found.file.model_copy(update=changes), frame=frame)


def _has_decimal_commas(frame: pd.DataFrame) -> bool:
    """Say whether some column is only of numbers if commas are decimal commas."""

    def numeric(texts: Sequence[str], decimal: str) -> bool:
        return any(not np.isnan(cells.numbers(texts, parse, decimal=decimal)).any() for parse in _WITH_DECIMALS)

    columns = (list(frame[name].cat.categories) for name in frame.columns)
    return any(texts and not numeric(texts, ".") and numeric(texts, ",") for texts in columns)


def _column(values: pd.Series, file: FileFormat) -> Column:
    counted = values.value_counts()
    counted = counted[counted > 0]
    if file.trim:
        counted = counted.groupby(counted.index.astype(str).str.strip()).sum().sort_values(ascending=False)
    texts = tuple(str(text) for text in counted.index)
    column = Column(str(values.name), len(values), int(values.isna().sum()), texts, tuple(int(c) for c in counted))
    # Codes such as 01 lose their zero as numbers.
    if any(len(text) > 1 and text[0] == "0" and text.isdecimal() for text in texts):
        return column
    for parse in (None, Parse.PERCENT, Parse.MONTHS, Parse.THOUSANDS):
        numbers = cells.numbers(texts, parse, decimal=file.decimal)
        if texts and not np.isnan(numbers).any():
            words = {text.lower() for text in texts} & {"yes", "no", "true", "false", "y", "n", "t", "f"}
            return column if words else replace(column, numbers=numbers, parse=parse)
    for form in _DATE_FORMATS:
        if texts and cells.dates(texts, form).notna().all():
            return replace(column, parse=Parse.DATE, date_format=form)
    wrong = np.isnan(cells.numbers(texts, Parse.THOUSANDS, decimal=file.decimal))
    if 0 < wrong.sum() <= len(texts) / 2:
        return replace(column, wrong=tuple(text for text, is_wrong in zip(texts, wrong, strict=True) if is_wrong))
    return column


def _file_warnings(file: FileFormat) -> Iterator[str]:
    if file.encoding:
        yield f"the file is not UTF-8: it is read as {file.encoding}; check names and texts with accents"
    if file.columns:
        yield "the file has no header: give the columns in `file.columns`, and the features, their real names"
    if file.decimal == ",":
        yield "numbers are written with a decimal comma"
    if file.trim:
        yield "names or values have spaces around them, which are removed"


def _target(columns: Sequence[Column], name: str, source: str) -> tuple[dict[str, Any], list[str]]:
    if name:
        column = next((column for column in columns if column.name == name), None)
        if column is None:
            raise BadInputError(f"{source}: there is no column {name}; it has {', '.join(c.name for c in columns)}")
        warnings = []
    else:
        column = _likely_target(columns)
        if column is None:
            raise BadInputError(f"{source}: no column looks like the outcome; name it with --target")
        warnings = [f"target: {column.name} is taken for the outcome; if it is not, name another one with --target"]
    if len(column.texts) < 2:
        raise BadInputError(f"{source}: the target {column.name} has a single value: {', '.join(column.texts)}")
    meant = {text: names.outcome_of(text, column.name) for text in column.texts}
    default = [text for text in column.texts if meant[text] == "default"]
    repaid = [text for text in column.texts if meant[text] == "repaid"]
    if not default or not repaid:
        if len(column.texts) > 2:
            raise BadInputError(
                f"{source}: which values of the target {column.name} mean default? It has "
                f"{', '.join(column.texts[:10])}; --target must name a column with two values, or with known ones"
            )
        # Sorted by frequency: most loans are repaid.
        repaid, default = [column.texts[0]], [column.texts[1]]
        warnings.append(f"target: the rarer value, {default[0]}, is taken for default: check it")
    ignored = [text for text in column.texts if text not in {*default, *repaid}]
    if ignored:
        warnings.append(f"target: rows with {', '.join(ignored)} are dropped, as loans whose outcome is open: check it")
    if column.missing:
        warnings.append(f"target: {column.missing} rows have no outcome and must be removed")
    return {
        "column": column.name,
        "default": default,
        "repaid": repaid,
        **({"ignored": ignored} if ignored else {}),
    }, warnings


def _likely_target(columns: Sequence[Column]) -> Column | None:
    """Return a column named like an outcome, else the last, else the first column with two values."""
    named = [column for column in columns if names.suggests_outcome(column.name) and 1 < len(column.texts) <= 12]
    known = [
        column for column in named if len(column.texts) == 2 or any(map(names.outcome_of, column.texts, column.texts))
    ]
    with_two_values = [column for column in (columns[-1], columns[0]) if len(column.texts) == 2]
    return next(iter([*known, *with_two_values]), None)


def _defaulted(values: pd.Series, outcome: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Return 1 for default, 0 for repaid and NaN for rows that will be dropped."""
    text = values.astype(str).str.strip()
    return np.select([text.isin(outcome["default"]), text.isin(outcome["repaid"])], [1.0, 0.0], np.nan)


def _unusable(column: Column, values: pd.Series, defaulted: npt.NDArray[np.float64]) -> str | None:
    """Return why a column is left out, or None."""
    if reason := _unusable_by_name(column):
        return reason
    if len(column.texts) < 2:
        return f"it is constant: {column.texts[0]}" if column.texts else "it is empty"
    if _is_identifier(column):
        return "it is an identifier"
    if column.numbers is None and column.parse is None and len(column.texts) > _MAXIMUM_CATEGORIES:
        if column.wrong:
            shown = ", ".join(column.wrong[:_SHOWN])
            return f"most of its values are numbers, but not {shown}: correct these, or make them empty cells"
        return (
            f"it has {len(column.texts)} different texts; more than {_MAXIMUM_CATEGORIES} are no categories: group "
            'them, or declare it with "other"'
        )
    return _later(column, values, defaulted)


def _unusable_by_name(column: Column) -> str | None:
    if column.name in RESERVED_NAMES:
        return "the service keeps this name for itself"
    if not column.name.isprintable():
        return "its name has control characters: rename it"
    if UNREADABLE_IN_KEYS.intersection(column.name):
        return "its name has quotation marks or backslashes, which the service cannot read in keys: rename it"
    if column.numbers is not None and names.suggests_weight(column.name):
        return 'by its name it says how many loans a row stands for: if so, declare it as "weight_column"'
    return None


def _is_identifier(column: Column) -> bool:
    if len(column.texts) < column.rows - column.missing:
        return False
    whole = column.numbers is not None and bool((column.numbers == np.floor(column.numbers)).all())
    return names.suggests_identifier(column.name) or (whole and _consecutive(column))


def _later(column: Column, values: pd.Series, defaulted: npt.NDArray[np.float64]) -> str | None:
    if names.suggests_later(column.name):
        return "by its name it is known only after the loan was granted, so it would reveal the outcome"
    if (auc := _auc(column, values, defaulted)) > _LEAK_AUC:
        return f"it alone tells the outcome (AUC {auc:.3f}), so it is probably known only after the loan was granted"
    return None


def _consecutive(column: Column) -> bool:
    assert column.numbers is not None  # noqa: S101 - the caller has checked it
    return bool(np.ptp(column.numbers) == len(column.texts) - 1)


def _auc(column: Column, values: pd.Series, defaulted: npt.NDArray[np.float64]) -> float:
    """Return how well the column alone ranks the outcome: by its numbers, else by each category's default rate."""
    known = ~np.isnan(defaulted) & values.notna().to_numpy()
    text = values[known].astype(str).str.strip()
    target = defaulted[known]
    if len(np.unique(target)) < 2:
        return 0.5
    if column.numbers is not None:
        number = dict(zip(column.texts, column.numbers, strict=True))
        score = text.map(number).to_numpy(dtype=np.float64)
    elif column.parse is None:
        score = pd.Series(target).groupby(text.to_numpy()).transform("mean").to_numpy(dtype=np.float64)
    else:
        return 0.5
    auc = float(roc_auc_score(target, np.nan_to_num(score)))
    return max(auc, 1 - auc)


def _feature(column: Column, reason_code: str) -> dict[str, Any]:
    protected = {"protected": True} if names.suggests_protected(column.name) else {}
    texts = {"description": column.name.replace("_", " ").strip().capitalize(), "reason_code": reason_code, **protected}
    if _is_categorical(column):
        return {"name": column.name, "kind": "categorical", "categories": sorted(column.texts, key=_natural), **texts}
    feature: dict[str, Any] = {"name": column.name, "kind": "numeric", "unit": _unit(column)}
    if column.parse is Parse.DATE:
        dates = cells.dates(column.texts, column.date_format)
        newest = dates.max()
        oldest = float(cells.completed_months(dates, pd.Series([newest] * len(dates))).max())
        limits = {"minimum": 0.0, "maximum": _rounded_up(oldest)}
        parse = {"parse": "date", "date_format": column.date_format, "reference_date": newest.date().isoformat()}
        return {**feature, **limits, **texts, **{key: value for key, value in parse.items() if value}}
    assert column.numbers is not None  # noqa: S101 - anything else is categorical
    low, high = float(column.numbers.min()), float(column.numbers.max())
    limits = {"minimum": 0.0 if low >= 0 else -_rounded_up(-low), "maximum": _rounded_up(high) if high > 0 else 0.0}
    return {**feature, **limits, **texts, **({"parse": str(column.parse)} if column.parse else {})}


def _is_categorical(column: Column) -> bool:
    if column.parse is not None:
        return False
    few_codes = len(column.texts) <= 12 and names.suggests_protected(column.name)
    return column.numbers is None or few_codes


def _unit(column: Column) -> str:
    return {Parse.PERCENT: "percent", Parse.MONTHS: "months", Parse.DATE: "months"}.get(column.parse, "")  # type: ignore[arg-type]


def _rounded_up(number: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is at least 1.5 times a positive number; at least 1, at most 1e38."""
    wanted = min(max(1.5 * number, 1.0), LARGEST_NUMBER)
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= wanted)


def _natural(text: str) -> tuple[bool, float, str]:
    number = cells.number(text)
    return (math.isnan(number), 0.0 if math.isnan(number) else number, text)


def _remarks(column: Column) -> Iterator[str]:
    if column.missing:
        yield f"{column.missing} of {column.rows} rows ({100 * column.missing / column.rows:.1f} %) have no value"
    if names.suggests_protected(column.name):
        yield "marked as protected, or a proxy of what is: the law may keep it out of decisions (--exclude-protected)"
    if _is_categorical(column):
        rare = [text for text, count in zip(column.texts, column.counts, strict=True) if count < _RARE_ROWS]
        if rare:
            yield f"rare categories, in fewer than {_RARE_ROWS} rows each: {', '.join(rare[:10])}"
        lower = {text.strip().lower() for text in column.texts}
        if len(lower) < len(column.texts):
            yield "some categories differ only by case or spaces"
    elif column.parse is Parse.DATE:
        yield (
            "becomes the age in months on the newest date; `reference_date` should be the day of the application. If "
            'it is the loan\'s own date, declare it as "date_column" instead, for the split by time'
        )
    elif column.numbers is not None:
        found = sorted(_SENTINELS.intersection(column.numbers))
        suspicious = [number for number in found if _stands_apart(number, column.numbers)]
        if suspicious:
            yield f"{', '.join(f'{number:g}' for number in suspicious)} may mean that there is no value"
        if len(column.texts) <= 2:
            yield "has two values; declare it as categorical if they are codes"


def _stands_apart(number: float, numbers: npt.NDArray[np.float64]) -> bool:
    others = numbers[numbers != number]
    if number < 0:
        return bool(others.size and others.min() >= 0)
    return bool(others.size and number > 3 * others.max())
