"""How well the probabilities of default hold: expected without outcomes, realized with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import accumulate, pairwise

from decisions.drift.bins import literal
from decisions.drift.calibration import calibrate
from decisions.drift.days import Days
from decisions.drift.document import Month, VersionPerformance
from decisions.drift.ranking import expected, realized
from decisions.drift.tally import Tally

# Of versions without a master scale.
_BANDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)


@dataclass(frozen=True)
class Maturity:
    """When loans are old enough: those of the months before `until` are `months` old at least."""

    months: int
    until: date

    @classmethod
    def of(cls, now: date, months: int) -> Maturity:
        """Return the maturity as of a day."""
        whole = now.year * 12 + now.month - 1 - months
        return cls(months, date(whole // 12, whole % 12 + 1, 1))


def of_versions(tally: Tally, window: Days, maturity: Maturity, numbers: Mapping[str, str]) -> list[VersionPerformance]:
    """Return the performance of each version.

    Args:
        tally: What was counted.
        window: The days whose loans performance is expected of.
        maturity: Which loans have matured.
        numbers: The versions' numbers, by how decisions name them.
    """
    found = []
    for version, number in numbers.items():
        approved, known = tally.approved(version, window), tally.known(maturity.until, version=version)
        if approved is None and known is None:
            continue
        grades = [
            calibrate(name, loans, defaults, min(probabilities / loans, 1.0))
            for name, loans, defaults, probabilities in tally.grades(version, maturity.until, _band_sql())
        ]
        found.append(VersionPerformance(
            version=number, expected=approved and expected(approved), realized=known and realized(known),
            expected_of_realized=known and expected(known), grades=grades,
        ))  # fmt: skip
    return found


def by_month(tally: Tally, maturity: Maturity, now: date) -> list[Month]:
    """Return what was and is to be expected of each month's loans, of all versions together."""
    found = []
    for month in tally.months():
        loans = tally.loans_of(month)
        if loans is None:
            continue
        known = tally.known(maturity.until, month=month)
        count = float(loans.loans.sum())
        found.append(Month(
            month=month, loans=round(count), expected=expected(loans),
            known=round(float(known.loans.sum())) if known else 0, realized=known and realized(known),
            cumulative=_cumulative(tally.defaults_by_age(month), count, _age(month, now)),
        ))  # fmt: skip
    return found


def _cumulative(defaults: Mapping[int, int], loans: float, age: int) -> list[float]:
    """Return the share of loans that had defaulted after 1, 2, ... of the months that all of them have seen."""
    until = list(accumulate(defaults.get(month, 0) for month in range(age + 1)))
    return [defaulted / loans for defaulted in until[1:]]


def _age(month: date, now: date) -> int:
    """Return how many whole months the youngest loan of a month is old."""
    return max(0, (now.year - month.year) * 12 + now.month - month.month - 1)


def _band_sql() -> str:
    whens = " ".join(
        f"WHEN probabilities / rows < {high} THEN {literal(f'{low:.0%} - {high:.0%}')}"
        for low, high in pairwise(_BANDS)
    )
    return f"CASE {whens} ELSE {literal(f'{_BANDS[-2]:.0%} - 100%')} END"
