"""A row of a file of outcomes: what it says, or why it is rejected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, cast
from uuid import UUID

from decisions.times import utc_time

OutcomeName = Literal["repaid", "defaulted", "open"]
OUTCOMES = ("repaid", "defaulted", "open")
FIELDS = ("decision_id", "applicant_id", "date", "outcome", "observed_at")
# Clocks differ. But an outcome of the year 2062 would count for all time, since the one observed last does.
CLOCK_TOLERANCE = timedelta(days=1)
_SHOWN = 80
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True)
class ApplicantDay:
    """The application of an applicant on one day (UTC)."""

    applicant_id: str
    day: date


@dataclass(frozen=True)
class Outcome:
    """What became of a loan, as it was observed at a time."""

    loan: UUID | ApplicantDay
    outcome: OutcomeName
    observed_at: datetime


@dataclass(frozen=True)
class RawRow:
    """A row as it was read; its number counts from 1, the header not included.

    Attributes:
        problem: Why there are no values; empty if there are.
    """

    number: int
    values: Mapping[str, object]
    problem: str = ""


class RejectedRowError(Exception):
    """A row that is not taken; the message says why."""


def read_row(row: RawRow, now: datetime) -> Outcome:
    """Return what a row says.

    Raises:
        RejectedRowError: It lacks something or says something impossible.
    """
    if row.problem:
        raise RejectedRowError(row.problem)
    values = {name: value for name, value in row.values.items() if value is not None and value != ""}
    if unknown := [name for name in row.values if name not in FIELDS]:
        raise RejectedRowError(f"unknown field {_shown(unknown[0])}; allowed: {', '.join(FIELDS)}")
    outcome = _text(values, "outcome").strip()
    if outcome not in OUTCOMES:
        raise RejectedRowError(f"outcome is {_shown(outcome)}; allowed: {', '.join(OUTCOMES)}")
    observed_at = _time(_text(values, "observed_at"))
    if observed_at > now + CLOCK_TOLERANCE:
        raise RejectedRowError(f"observed_at is in the future: {observed_at.isoformat()}")
    return Outcome(_loan(values, now), cast("OutcomeName", outcome), observed_at)


def _loan(values: Mapping[str, object], now: datetime) -> UUID | ApplicantDay:
    if "decision_id" in values:
        if both := [name for name in ("applicant_id", "date") if name in values]:
            raise RejectedRowError(f"decision_id and {both[0]}: give the decision_id alone, or applicant_id and date")
        text = _text(values, "decision_id").strip()
        if not _UUID.fullmatch(text):
            raise RejectedRowError(f"decision_id is {_shown(text)}; allowed: a UUID")
        return UUID(text)
    if "applicant_id" not in values and "date" not in values:
        raise RejectedRowError("decision_id is missing, and so are applicant_id and date")
    applicant_id, text = _text(values, "applicant_id"), _text(values, "date").strip()
    try:
        if not _DAY.fullmatch(text):
            raise ValueError  # noqa: TRY301 - the same as of fromisoformat
        day = date.fromisoformat(text)
    except ValueError as error:
        raise RejectedRowError(
            f"date is {_shown(text)}; allowed: the day of the application (UTC), 2026-01-31"
        ) from error
    if day > (now + CLOCK_TOLERANCE).date():
        raise RejectedRowError(f"date is in the future: {day.isoformat()}")
    return ApplicantDay(applicant_id, day)


def _text(values: Mapping[str, object], name: str) -> str:
    value = values.get(name)
    if value is None:
        raise RejectedRowError(f"{name} is missing")
    if not isinstance(value, str):
        raise RejectedRowError(f"{name} is {_shown(value)}; allowed: text")
    if "\0" in value:
        raise RejectedRowError(f"{name} has a NUL character")
    return value


def _time(text: str) -> datetime:
    try:
        return utc_time(text.strip())
    except ValueError as error:
        raise RejectedRowError(f"observed_at is {_shown(text)}; allowed: {error}") from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
