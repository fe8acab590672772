"""The tables of counts, as arrays of the bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from decisions.drift.days import Days
from decisions.drift.ranking import Loans

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupCounts:
    """A segment's group: decisions by score, [bins], and those among them that were approved."""

    scores: Counts
    approved: float

    @property
    def rows(self) -> float:
        """How many decisions it has."""
        return float(self.scores.sum())


class Tally:
    """What was counted by `aggregation.count`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Take the database with the tables."""
        self._connection = connection

    def decisions(self, days: Days) -> dict[str, int]:
        """Return how many decisions each version made, the most first."""
        return dict(self._rows("SELECT version, sum(rows)::BIGINT FROM days WHERE {days} GROUP BY 1 ORDER BY 2 DESC, 1",
                               days))  # fmt: skip

    def forgotten(self, days: Days) -> int:
        """Return how many of the decisions have no inputs any more."""
        return int(self._rows("SELECT coalesce(sum(forgotten), 0)::BIGINT FROM days WHERE {days}", days)[0][0])

    def feature(self, name: str, days: Days, bins: int) -> dict[date, Counts]:
        """Return the counts of a feature's bins, [bins], by day, of all versions."""
        return self._by_day("feature", name, days, bins, None)

    def score(self, version: str, days: Days, bins: int) -> dict[date, Counts]:
        """Return the counts of a version's scores, [bins], by day."""
        return self._by_day("score", "", days, bins, version)

    def reasons(self, version: str, days: Days, part: str) -> dict[str, float]:
        """Return how many of a version's decisions name each reason, by its code.

        Args:
            version: That decided.
            days: When.
            part: `reason`, or `first_reason` for the first one, which is empty for decisions without.
        """
        return {value: float(rows) for value, rows in self._rows(
            "SELECT value, sum(rows) FROM counted WHERE part = ? AND version = ? AND {days} GROUP BY 1 ORDER BY 1",
            days, part, version,
        )}  # fmt: skip

    def groups(self, name: str, version: str, days: Days, bins: int) -> dict[int | str, GroupCounts]:
        """Return the groups of a segment by their bin, or by the client's name."""
        found: dict[int | str, tuple[Counts, list[float]]] = {}
        for bin_, value, score, decision, rows in self._rows(
            "SELECT bin, value, score, decision, sum(rows) FROM counted WHERE part = 'segment' AND name = ? "
            "AND version = ? AND {days} GROUP BY ALL ORDER BY ALL", days, name, version,
        ):  # fmt: skip
            scores, approved = found.setdefault(value if bin_ is None else bin_, (np.zeros(bins), [0.0]))
            scores[score] += rows
            approved[0] += rows if decision == "approve" else 0
        return {key: GroupCounts(scores, approved[0]) for key, (scores, approved) in found.items()}

    def approved(self, version: str, days: Days) -> Loans | None:
        """Return the loans that a version approved, by narrow bins of the probability; None if there are none."""
        return _loans(self._rows(
            "SELECT sum(rows)::DOUBLE, sum(probabilities), NULL FROM counted WHERE part = 'probability' "
            "AND version = ? AND decision = 'approve' AND {days} GROUP BY bin ORDER BY bin", days, version,
        ))  # fmt: skip

    def months(self) -> list[date]:
        """Return the months with approved loans."""
        return [month for (month,) in self._rows("SELECT DISTINCT month FROM loans ORDER BY 1")]

    def loans_of(self, month: date) -> Loans | None:
        """Return a month's approved loans, whatever became of them."""
        return _loans(self._rows("SELECT sum(rows)::DOUBLE, sum(probabilities), NULL FROM loans WHERE month = ? "
                                 "GROUP BY bin ORDER BY bin", None, month))  # fmt: skip

    def known(self, until: date, *, month: date | None = None, version: str | None = None) -> Loans | None:
        """Return the loans of the months before one that were repaid or defaulted, of one month or version."""
        return _loans(self._rows(
            "SELECT sum(rows)::DOUBLE, sum(probabilities), sum(rows) FILTER (outcome = 'defaulted')::DOUBLE FROM loans "
            "WHERE outcome IN ('repaid', 'defaulted') AND month < ? AND month = coalesce(?, month) "
            "AND version = coalesce(?, version) GROUP BY bin ORDER BY bin", None, until, month, version,
        ))  # fmt: skip

    def grades(self, version: str, until: date, bands: str) -> list[tuple[str, int, int, float]]:
        """Return name, loans, defaults and sum of the probabilities of a version's grades, of known loans.

        Args:
            version: That decided.
            until: Only months before this one.
            bands: The expression of what stands for a grade where the model has none.
        """
        return self._rows(
            f"SELECT coalesce(grade, {bands}) AS name, sum(rows)::BIGINT, "
            "coalesce(sum(rows) FILTER (outcome = 'defaulted'), 0)::BIGINT, sum(probabilities) FROM loans "
            "WHERE outcome IN ('repaid', 'defaulted') AND version = ? AND month < ? GROUP BY 1 "
            "ORDER BY sum(probabilities) / sum(rows)", None, version, until,
        )  # fmt: skip

    def new_outcomes(self, until: date, learned_until: date) -> int:
        """Return how many matured loans have an outcome that a training before did not have.

        Args:
            until: Only months before this one have matured.
            learned_until: Those before this one had matured at the training.
        """
        return int(self._rows(
            "SELECT coalesce(sum(rows), 0)::BIGINT FROM loans WHERE outcome IN ('repaid', 'defaulted') AND month < ? "
            "AND (late OR month >= ?)", None, until, learned_until,
        )[0][0])  # fmt: skip

    def defaults_by_age(self, month: date) -> dict[int, int]:
        """Return how many of a month's loans defaulted at which age in months."""
        return dict(self._rows("SELECT age, sum(rows)::BIGINT FROM loans WHERE month = ? AND age IS NOT NULL "
                               "GROUP BY 1", None, month))  # fmt: skip

    def _by_day(self, part: str, name: str, days: Days, bins: int, version: str | None) -> dict[date, Counts]:
        found: dict[date, Counts] = {}
        for day, bin_, rows in self._rows(
            "SELECT day, bin, sum(rows) FROM counted WHERE part = ? AND name = ? AND version = coalesce(?, version) "
            "AND {days} GROUP BY ALL ORDER BY ALL", days, part, name, version,
        ):  # fmt: skip
            found.setdefault(day, np.zeros(bins))[bin_] += rows
        return found

    def _rows(self, query: str, days: Days | None = None, *parameters: object) -> list[Any]:
        """Return the rows of a query in which {days} stands for the condition that the day is one of these."""
        during = [days.since, days.until] if days else []
        text = query.replace("{days}", "day >= ? AND day < ?")
        return self._connection.execute(text, [*parameters, *during]).fetchall()


def total(by_day: Mapping[date, Counts], days: Days, bins: int) -> Counts:
    """Return the sum of the counts of some days, [bins]."""
    return np.asarray(sum((counts for day, counts in by_day.items() if day in days), np.zeros(bins)))


def _loans(rows: Sequence[tuple[float, float, float | None]]) -> Loans | None:
    if not rows:
        return None
    loans, probabilities, defaults = (
        np.array([value or 0.0 for value in column]) for column in zip(*rows, strict=True)
    )
    return Loans(np.clip(probabilities / loans, 0, 1), loans, defaults)
