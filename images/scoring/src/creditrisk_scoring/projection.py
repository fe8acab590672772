"""The columns of a table of Delta Lake or Iceberg, from a data file that may be older than the table's schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from creditrisk_scoring.errors import UsageError

FIELD_ID, PHYSICAL_NAME = b"PARQUET:field_id", b"delta.columnMapping.physicalName"


@dataclass(frozen=True)
class Projection:
    """How a data file becomes rows of its table.

    Attributes:
        schema: The table's columns. Its metadata has the name that files have for a column (`PHYSICAL_NAME`), or the
            id by which they know it (`FIELD_ID`); without either, files have its own name.
        constants: The values of columns that files do not have, as text: what the table is partitioned by.
    """

    schema: pa.Schema
    constants: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def columns(self) -> pa.Schema:
        """The table's columns alone."""
        return pa.schema([column.remove_metadata() for column in self.schema])

    def places(self, file_schema: pa.Schema) -> dict[str, str]:
        """Return the name in the file of each column that the file has.

        Raises:
            UsageError: The file does not say which of its columns is which.
        """
        ids = {known[FIELD_ID]: column.name for column in file_schema if FIELD_ID in (known := column.metadata or {})}
        found: dict[str, str] = {}
        for column in self.schema:
            known = column.metadata or {}
            name: str | None = known.get(PHYSICAL_NAME, column.name.encode()).decode()
            if FIELD_ID in known and PHYSICAL_NAME not in known:
                if not ids:
                    raise UsageError(
                        "its columns have no ids, as in files that were imported; allowed: a rewritten table"
                    )
                name = ids.get(known[FIELD_ID])
            if name is not None and name in file_schema.names and column.name not in self.constants:
                found[column.name] = name
        return found

    def apply(self, batch: pa.RecordBatch, names: Sequence[str], places: Mapping[str, str]) -> pa.RecordBatch:
        """Return a batch of a file with some of the table's columns; one that the file lacks is null or constant.

        Raises:
            pa.ArrowException: A value does not fit its column's type.
        """
        fields = [self.columns.field(name) for name in names]
        arrays = [
            batch.column(places[one.name]).cast(one.type) if one.name in places else self._constant(one, batch.num_rows)
            for one in fields
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _constant(self, column: pa.Field, count: int) -> pa.Array:
        if (text := self.constants.get(column.name)) is None:
            return pa.nulls(count, column.type)
        return pa.repeat(pa.scalar(text, pa.string()).cast(column.type), count)


def flat(schema: pa.Schema) -> pa.Schema:
    """Return a table's columns but nested ones: they are no features, and their parts may have other names in files."""
    names = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    return pa.schema(
        column.with_type(names.get(column.type, column.type))
        for column in schema
        if not pa.types.is_nested(column.type)
    )
