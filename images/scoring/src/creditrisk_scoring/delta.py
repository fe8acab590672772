"""What a table of Delta Lake consists of, by delta-rs."""

from __future__ import annotations

from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.folders import Folder, s3_store
from creditrisk_scoring.projection import PHYSICAL_NAME, flat

# What a reader has to know of, or may leave alone; files with deletion vectors are refused one by one.
_FEATURES = {"columnMapping", "deletionVectors", "timestampNtz", "typeWidening", "v2Checkpoint", "vacuumProtocolCheck"}
_MAPPINGS = {"none", "name"}


def read_delta(folder: Folder) -> tuple[int, pa.Schema, dict[str, dict[str, str | None]]]:
    """Return the newest version, its columns, and its files, by name, with the values that each is partitioned by.

    Raises:
        UsageError: The table cannot be read, or has what is not supported.
        BulkError: The folder cannot be reached.
    """
    try:
        table = DeltaTable(folder.url, storage_options=_options(folder))
        _refuse_unknown(folder, table)
        schema = flat(pa.schema(table.schema().to_arrow()))
        actions = pa.table(table.get_add_actions())
        if any(batch.num_rows for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors())):
            raise UsageError(
                f"{folder.url} has rows that are deleted by deletion vectors; allowed: a table without, as after "
                "REORG TABLE ... APPLY (PURGE)"
            )
    except (DeltaError, FileNotFoundError) as error:
        raise UsageError(f"{folder.url} is no table of Delta Lake that can be read: {error}") from error
    except OSError as error:
        raise BulkError(f"{folder.url}: {error}") from error
    names = {_physical(column): column.name for column in schema}
    partitions = _partitions(actions, names)
    return table.version(), schema, {
        path: {name: values[row] for name, values in partitions.items()}
        for row, path in enumerate(_inside(folder, actions.column("path").to_pylist()))
    }  # fmt: skip


def _refuse_unknown(folder: Folder, table: DeltaTable) -> None:
    unknown = set(table.protocol().reader_features or ()) - _FEATURES
    mapping = table.metadata().configuration.get("delta.columnMapping.mode") or "none"
    if mapping not in _MAPPINGS:
        unknown.add(f"delta.columnMapping.mode {mapping}")
    if unknown:
        allowed = ", ".join(sorted(_FEATURES))
        raise UsageError(f"{folder.url} needs {', '.join(sorted(unknown))} of readers; allowed: {allowed} (by name)")


def _inside(folder: Folder, paths: list[str]) -> list[str]:
    if outside := [path for path in paths if "://" in path or path.startswith("/")]:
        raise UsageError(f"{folder.url} has files outside of its folder, such as {outside[0]}; allowed: files inside")
    # In the log, they are percent-encoded.
    return [unquote(path) for path in paths]


def _physical(column: pa.Field) -> str:
    return str((column.metadata or {}).get(PHYSICAL_NAME, column.name.encode()).decode())


def _partitions(actions: pa.Table, names: dict[str, str]) -> dict[str, list[str | None]]:
    """Return the values of the columns that a table is partitioned by, as text, by column."""
    if "partition" not in actions.column_names:
        return {}
    values = actions.column("partition").combine_chunks()
    return {
        names.get(column.name, column.name): pc.struct_field(values, column.name).cast(pa.string()).to_pylist()
        for column in values.type
    }


def _options(folder: Folder) -> dict[str, str] | None:
    if "://" not in folder.url:
        return None
    store = s3_store()
    options = {"aws_endpoint_url": store.endpoint, "aws_region": store.region}
    plain = {"aws_allow_http": "true"} if (store.endpoint or "").startswith("http:") else {}
    return {**{name: value for name, value in options.items() if value}, **plain}
