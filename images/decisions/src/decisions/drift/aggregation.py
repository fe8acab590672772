"""Counts of decisions, made by DuckDB in one pass over the inputs of each part of the data.

A part is a view `decisions` of (id, made, version, role, client, probability, decision, grade, reasons, inputs) and a
view `outcomes` of (id, outcome, observed_at, known_at); times are in UTC and without a zone, which DuckDB only has by
an extension. Its counts are added to those of the other parts, so that memory is that of one part: the tables of counts
have some thousand rows for each day.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from decisions.drift.bins import Bins, FeatureBins, literal, log_odds_sql, score_sql
from decisions.drift.contract import Numeric

CLIENT = "client"
TABLES = """
-- What was counted: part is feature, score, probability, segment, reason (how many decisions name it) or first_reason
-- (an empty value: none; these are all decisions that have reasons). Score and decision are those of segments and
-- probabilities; bins are those of `bins.py`. The sum of probabilities is that of the rows.
CREATE TABLE counted (day DATE, version VARCHAR, part VARCHAR, name VARCHAR, bin INTEGER, value VARCHAR, score INTEGER,
                      decision VARCHAR, rows BIGINT, probabilities DOUBLE);
-- Approved loans by the month of the decision; age is in months, of defaults. Late: it was not known at the training.
CREATE TABLE loans (month DATE, version VARCHAR, grade VARCHAR, bin INTEGER, outcome VARCHAR, age INTEGER, late BOOLEAN,
                    rows BIGINT, probabilities DOUBLE);
-- Days that were read, with all their decisions and those whose inputs were forgotten.
CREATE TABLE days (day DATE, version VARCHAR, rows BIGINT, forgotten BIGINT);
"""


@dataclass(frozen=True)
class Period:
    """A range of time: its beginning, and its end, which is not part of it; both have a time zone."""

    since: datetime
    until: datetime

    def sql(self, time: str) -> str:
        """Return the condition that a time is in it."""
        return f"({time} >= {_timestamp(self.since)} AND {time} < {_timestamp(self.until)})"


@dataclass(frozen=True)
class Wanted:
    """What is counted.

    Attributes:
        bins: Of features and scores.
        segments: Names of features, or `client`, by which scores and decisions are counted, too.
        drift: When the decisions were made whose features, scores and reasons are counted.
        loans: When those were made whose outcomes are.
        trained_at: When the version was trained, if that is known; it has a time zone.
    """

    bins: Bins
    segments: Sequence[str]
    drift: Sequence[Period]
    loans: Period
    trained_at: datetime | None = None


def database(folder: str, *, memory_mebibytes: int, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """Return a database in memory with the tables of counts.

    Args:
        folder: Where it may put what does not fit into memory.
        memory_mebibytes: How much it may take.
        threads: How many it may use.
    """
    connection = duckdb.connect(config={
        "temp_directory": folder, "memory_limit": f"{memory_mebibytes}MiB", "threads": threads,
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
    })  # fmt: skip
    connection.execute(TABLES)
    return connection


def count(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> None:
    """Add the counts of the views `decisions` and `outcomes` to the tables."""
    inside = " OR ".join(period.sql("made") for period in wanted.drift)
    connection.execute(_counted(wanted, inside))
    connection.execute(_REASONS.format(inside=inside))
    connection.execute(_DAYS.format(inside=inside))
    late = f"coalesce(o.known_at >= {_timestamp(wanted.trained_at)}, false)" if wanted.trained_at else "false"
    connection.execute(_LOANS.format(inside=wanted.loans.sql("made"), bin=log_odds_sql("d.probability"), late=late))


def quantile_edges(connection: duckdb.DuckDBPyConnection, feature: Numeric, period: Period, parts: int) -> list[float]:
    """Return the values of a number that divide the decisions of the view into equal parts; none if there are none."""
    steps = [n / parts for n in range(1, parts)]
    parsed = f"from_json(inputs, {_shape([feature])})"
    row = connection.execute(
        f"SELECT quantile_disc(value, {steps}) FROM (SELECT {_field(parsed, feature)} AS value FROM decisions "
        f" WHERE role <> 'shadow' AND {period.sql('made')}) WHERE value IS NOT NULL"
    ).fetchone()
    return list(row[0]) if row and row[0] else []


_REASONS = """
INSERT INTO counted
WITH given AS (SELECT made::DATE AS day, version, reasons FROM decisions
               WHERE role <> 'shadow' AND reasons IS NOT NULL AND ({inside}))
SELECT day, version, 'first_reason', '', NULL, coalesce(reasons[1], ''), NULL, NULL, count(*), NULL
FROM given GROUP BY ALL
UNION ALL
SELECT day, version, 'reason', '', NULL, reason, NULL, NULL, count(*), NULL
FROM (SELECT day, version, unnest(list_distinct(reasons)) AS reason FROM given) GROUP BY ALL
"""
_DAYS = """
INSERT INTO days SELECT made::DATE, version, count(*), count(*) FILTER (inputs IS NULL)
FROM decisions WHERE role <> 'shadow' AND ({inside}) GROUP BY ALL
"""
_LOANS = """
INSERT INTO loans
SELECT date_trunc('month', made)::DATE, version, grade, {bin}, outcome,
       CASE WHEN outcome = 'defaulted' THEN greatest(date_diff('month', made, observed_at), 0) END,
       {late}, count(*), sum(d.probability)
FROM decisions d LEFT JOIN outcomes o USING (id)
WHERE role <> 'shadow' AND decision = 'approve' AND {inside} GROUP BY ALL
"""


def _counted(wanted: Wanted, inside: str) -> str:
    """Return the statement that counts features, scores, probabilities and segments of each day and version."""
    bins = wanted.bins
    columns = {of.feature.name: f"f{number}" for number, of in enumerate(bins.features)}
    values = ", ".join(f"{_bin(of)} AS {columns[of.feature.name]}" for of in bins.features)
    by_segment = {name: columns.get(name, CLIENT) for name in wanted.segments}
    sets = [
        *(f"(day, version, {column})" for column in columns.values()), "(day, version, score)",
        "(day, version, narrow, decision)",
        *(f"(day, version, {column}, score, decision)" for column in by_segment.values()),
    ]  # fmt: skip
    names = " ".join(f"WHEN grouping({column}) = 0 THEN {literal(name)}" for name, column in columns.items())
    client = f"WHEN grouping({CLIENT}) = 0 THEN {literal(CLIENT)}" if CLIENT in by_segment.values() else ""
    bin_ = ", ".join(f"CASE WHEN grouping({column}) = 0 THEN {column} END" for column in columns.values())
    # A column of no set cannot be selected, or asked for.
    value = CLIENT if client else "NULL"
    return f"""
        INSERT INTO counted
        WITH parsed AS (
            SELECT made::DATE AS day, version, client, decision, probability,
                   from_json(inputs, {_shape([of.feature for of in bins.features])}) AS f
            FROM decisions WHERE role <> 'shadow' AND ({inside})
        ), binned AS (
            SELECT day, version, client, decision, probability, {score_sql(bins.score_edges, "probability")} AS score,
                   {log_odds_sql("probability")} AS narrow, {values}
            FROM parsed
        ), grouped AS (
            SELECT day, version,
                   CASE WHEN grouping(narrow) = 0 THEN 'probability' WHEN grouping(decision) = 0 THEN 'segment'
                        WHEN grouping(score) = 0 THEN 'score' ELSE 'feature' END AS part,
                   CASE {client} {names} ELSE '' END AS name,
                   CASE WHEN grouping(narrow) = 0 THEN narrow WHEN grouping(score) = 0 AND grouping(decision) = 1
                        THEN score ELSE coalesce({bin_}) END AS bin,
                   {value} AS value, CASE WHEN grouping(decision) = 0 THEN score END AS score, decision,
                   count(*) AS rows, sum(probability) AS probabilities
            FROM binned GROUP BY GROUPING SETS ({", ".join(sets)})
        )
        -- Forgotten inputs have no bins.
        SELECT * FROM grouped WHERE bin IS NOT NULL OR value IS NOT NULL
        """


def _bin(of: FeatureBins) -> str:
    return f"CASE WHEN f IS NOT NULL THEN {of.sql(_field('f', of.feature))} END"


def _field(struct: str, feature: object) -> str:
    name = feature.name  # type: ignore[attr-defined]
    return f'{struct}."{name.replace(chr(34), chr(34) * 2)}"'


def _shape(features: Sequence[object]) -> str:
    """Return the types of the inputs' fields as SQL; a category that is other is an object, and so some other text."""
    types = {of.name: "DOUBLE" if isinstance(of, Numeric) else "VARCHAR" for of in features}  # type: ignore[attr-defined]
    return literal(json.dumps(types))


def _timestamp(at: datetime) -> str:
    return f"TIMESTAMP {literal(at.astimezone(UTC).replace(tzinfo=None).isoformat())}"
