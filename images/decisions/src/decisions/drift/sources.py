"""Where decisions come from: Parquet files on disk, or the database and the archive in S3."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

import duckdb
import psycopg
import pyarrow.parquet as pq

from decisions.archive.bucket import Bucket
from decisions.archive.files import DECISIONS, INPUTS, archived_days, decisions_key, inputs_key
from decisions.database.id_ranges import first_id
from decisions.drift.bins import literal
from decisions.errors import DecisionsError, UsageError

# Of decisions that are counted together.
_PART_ROWS = 500_000
_MADE = "make_timestamp(epoch_us(time)) AS made"
_COLUMNS = "id, made, version, role, client, probability, decision, grade, reasons, inputs"
_NO_OUTCOMES = """SELECT NULL::VARCHAR AS id, NULL::VARCHAR AS outcome, NULL::TIMESTAMP AS observed_at,
       NULL::TIMESTAMP AS known_at WHERE false"""
_OF_DATABASE = """
COPY (
    SELECT d.id, to_timestamp(('x0000' || left(replace(d.id::text, '-', ''), 12))::bit(64)::bigint / 1000.0)
               AT TIME ZONE 'UTC' AS made,
           model_version AS version, role, client, probability, decision, grade, array_to_json(reasons) AS reasons,
           inputs
    FROM decisions d LEFT JOIN decision_inputs i ON i.id = d.id AND i.id >= {first} AND i.id < {end}
    WHERE d.id >= {first} AND d.id < {end}
) TO STDOUT (FORMAT csv)
"""
_CSV_TYPES = {
    "id": "VARCHAR", "made": "TIMESTAMP", "version": "VARCHAR", "role": "VARCHAR", "client": "VARCHAR",
    "probability": "FLOAT", "decision": "VARCHAR", "grade": "VARCHAR", "reasons": "VARCHAR", "inputs": "VARCHAR",
}  # fmt: skip
# An outcome is known from its first report on, however often it is observed again.
_OUTCOMES = """
COPY (
    SELECT decision_id, outcome, observed_at AT TIME ZONE 'UTC', known_at AT TIME ZONE 'UTC' FROM current_outcomes
    JOIN (SELECT decision_id, outcome, min(reported_at) AS known_at FROM outcomes
          WHERE decision_id >= {first} AND decision_id < {end} GROUP BY 1, 2) f USING (decision_id, outcome)
    WHERE decision_id >= {first} AND decision_id < {end}
) TO STDOUT (FORMAT csv)
"""


class Source(Protocol):
    """Decisions, part by part."""

    def parts(
        self, connection: duckdb.DuckDBPyConnection, days: Sequence[date], with_inputs: Collection[date]
    ) -> Iterator[date | None]:
        """Make the views `decisions` and `outcomes` of one part after the other; yield its day, None if it has many.

        Args:
            connection: Of the database in which the views are made. They are gone once the next part is asked for.
            days: That are wanted; there may be others in a part.
            with_inputs: Those of which inputs are.
        """


@dataclass(frozen=True)
class Files:
    """Parquet files: exports, or a folder that holds a copy of the archive.

    Attributes:
        paths: Of the files, or of one folder with archive/decisions in it.
        outcomes: A Parquet or CSV file with decision_id, outcome and observed_at; None if no outcomes are known.
    """

    paths: Sequence[Path]
    outcomes: Path | None = None

    def parts(
        self, connection: duckdb.DuckDBPyConnection, days: Sequence[date], with_inputs: Collection[date]
    ) -> Iterator[date | None]:
        """See `Source`."""
        folder = self._archive()
        if folder is None:
            self._show_outcomes(connection)
            columns = _COLUMNS.replace("made", _MADE, 1).replace("version", "model_version AS version", 1)
            _view(connection, "decisions", f"SELECT {columns} FROM {_read(self.paths)}")
            yield None
            return
        for several in _gathered([day for day in days if (folder / decisions_key(day)).exists()], folder):
            self._show_outcomes(connection, several)
            inputs = [folder / inputs_key(day) for day in several if day in with_inputs]
            _day_view(
                connection, [folder / decisions_key(day) for day in several], [of for of in inputs if of.exists()]
            )
            yield several[-1]

    def _show_outcomes(self, connection: duckdb.DuckDBPyConnection, days: Sequence[date] = ()) -> None:
        """Show all outcomes, or those of the decisions of some days, which rise."""
        if self.outcomes is None:
            _view(connection, "outcomes", _NO_OUTCOMES)
            return
        first, end = (_ids(days[0])[0], _ids(days[-1])[1]) if days else (literal(""), literal("~"))
        _view(
            connection, "outcomes", f"SELECT * FROM ({_outcomes_of(self.outcomes)}) WHERE id >= {first} AND id < {end}"
        )

    def last_day(self, connection: duckdb.DuckDBPyConnection) -> date:
        """Return the day of the newest decision.

        Raises:
            UsageError: There is none.
        """
        (last,) = connection.execute(
            f"SELECT max(make_timestamp(epoch_us(time)))::DATE FROM {_read(self._files())}"
        ).fetchall()[0]
        if last is None:
            raise UsageError(f"--decisions: there are no decisions in {', '.join(map(str, self.paths))}")
        return date.fromisoformat(str(last))

    def deciding_version(self, connection: duckdb.DuckDBPyConnection, since: date, until: date) -> str:
        """Return the version that made most of the decisions of a period.

        Raises:
            UsageError: There are none.
        """
        row = connection.execute(
            f"SELECT model_version FROM (SELECT *, {_MADE} FROM {_read(self._files())}) WHERE role <> 'shadow' "
            "AND made >= ? AND made < ? GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1", [since, until],
        ).fetchone()  # fmt: skip
        if row is None:
            raise UsageError(f"--decisions: there are no decisions from {since} to {until}")
        return str(row[0])

    def versions(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Return all versions that decided."""
        rows = connection.execute(f"SELECT DISTINCT model_version FROM {_read(self._files())} ORDER BY 1").fetchall()
        return [version for (version,) in rows]

    def _archive(self) -> Path | None:
        """Return the folder if the decisions are a copy of the archive."""
        folder = self.paths[0] if len(self.paths) == 1 and self.paths[0].is_dir() else None
        if folder and not (folder / DECISIONS).is_dir():
            raise UsageError(
                f"--decisions {folder}: a folder must have {DECISIONS} and {INPUTS} in it, as the archive has"
            )
        return folder

    def _files(self) -> list[Path]:
        folder = self._archive()
        return sorted((folder / DECISIONS).glob("day=*/*.parquet")) if folder else list(self.paths)


@dataclass(frozen=True)
class Store:
    """The decision log's own database and archive.

    Attributes:
        database: A connection that commits each statement, whose role may read.
        bucket: The archive. Its days are read from there: that asks nothing of the database.
        versions: How decisions name the versions of the model.
    """

    database: psycopg.Connection
    bucket: Bucket
    versions: Sequence[str]

    def parts(
        self, connection: duckdb.DuckDBPyConnection, days: Sequence[date], with_inputs: Collection[date]
    ) -> Iterator[date | None]:
        """See `Source`."""
        archived = set(archived_days(self.bucket))
        for day in days:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                outcomes = self._copy(_OUTCOMES, day, folder / "outcomes.csv")
                _view(connection, "outcomes", _csv_view(outcomes, {
                    "id": "VARCHAR", "outcome": "VARCHAR", "observed_at": "TIMESTAMP", "known_at": "TIMESTAMP",
                }) if outcomes.stat().st_size else _NO_OUTCOMES)  # fmt: skip
                if day in archived:
                    self._show_archived(connection, day, folder, inputs=day in with_inputs)
                elif not self._show_stored(connection, day, folder):
                    continue
                yield day

    def _show_archived(self, connection: duckdb.DuckDBPyConnection, day: date, folder: Path, *, inputs: bool) -> None:
        records, known = folder / "decisions", folder / "inputs"
        self.bucket.download(decisions_key(day), records)
        if inputs:
            self.bucket.download(inputs_key(day), known)
        _day_view(connection, [records], [known] if inputs else [], self._only_ours())

    def _show_stored(self, connection: duckdb.DuckDBPyConnection, day: date, folder: Path) -> bool:
        rows = self._copy(_OF_DATABASE, day, folder / "decisions.csv")
        if not rows.stat().st_size:
            return False
        columns = _COLUMNS.replace("reasons", """from_json(reasons, '["VARCHAR"]') AS reasons""")
        _view(
            connection, "decisions", f"SELECT {columns} FROM ({_csv_view(rows, _CSV_TYPES)}) WHERE {self._only_ours()}"
        )
        return True

    def _copy(self, query: str, day: date, file: Path) -> Path:
        """Write the rows of a day to a file."""
        first, end = _ids(day)
        with self.database.cursor() as cursor, cursor.copy(query.format(first=first, end=end).encode()) as rows, \
                file.open("wb") as target:  # fmt: skip
            for chunk in rows:
                target.write(chunk)
        return file

    def _only_ours(self) -> str:
        return f"version IN ({', '.join(map(literal, self.versions))})"


def _gathered(days: Sequence[date], folder: Path) -> Iterator[list[date]]:
    """Yield days in groups: each part costs some statements, and large ones cost memory."""
    group: list[date] = []
    rows = 0
    for day in days:
        group.append(day)
        rows += pq.read_metadata(folder / decisions_key(day)).num_rows
        if rows >= _PART_ROWS:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _day_view(
    connection: duckdb.DuckDBPyConnection, records: Sequence[Path], inputs: Sequence[Path], condition: str = "true"
) -> None:
    """Show files of the archive; decisions without inputs are as if those were forgotten."""
    columns = f"d.* EXCLUDE (time, model_version), {_MADE}, model_version AS version"
    joined, given = (
        (f"LEFT JOIN {_read(inputs)} i USING (id)", "i.inputs") if inputs else ("", "NULL::VARCHAR AS inputs")
    )
    query = f"SELECT {columns}, {given} FROM {_read(records)} d {joined}"
    _view(connection, "decisions", f"SELECT {_COLUMNS} FROM ({query}) WHERE {condition}")


def _read(files: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(literal(str(file)) for file in files)}])"


def _ids(day: date) -> tuple[str, str]:
    """Return the lowest id of a day's decisions, and that of the next day, as SQL."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return literal(str(first_id(start))), literal(str(first_id(start + timedelta(days=1))))


def _view(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    try:
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    except duckdb.Error as error:
        raise DecisionsError(f"{name} cannot be read: {error}") from error


def _csv_view(file: Path, types: dict[str, str]) -> str:
    columns = ", ".join(f"{literal(name)}: {literal(of)}" for name, of in types.items())
    # An empty text is quoted, and so is not NULL.
    form = """header = false, auto_detect = false, delim = ',', quote = '"', escape = '"', nullstr = ''"""
    return f"SELECT * FROM read_csv({literal(str(file))}, {form}, allow_quoted_nulls = false, columns = {{{columns}}})"


def _outcomes_of(file: Path) -> str:
    """Return the outcomes of a file that count: the one observed last; of those observed together, the worst."""
    read = "read_csv" if file.suffix == ".csv" else "read_parquet"
    return (
        "SELECT decision_id::VARCHAR AS id, outcome, observed_at::TIMESTAMP AS observed_at, "
        "NULL::TIMESTAMP AS known_at "
        f"FROM {read}({literal(str(file))}) "
        "QUALIFY row_number() OVER (PARTITION BY decision_id ORDER BY observed_at DESC, "
        "CASE outcome WHEN 'defaulted' THEN 0 WHEN 'repaid' THEN 1 ELSE 2 END) = 1"
    )
