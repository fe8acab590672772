"""What a table of Apache Iceberg consists of, by PyIceberg and without a catalog."""

from __future__ import annotations

import re

import pyarrow as pa
from pyiceberg.exceptions import ValidationError
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import FileFormat
from pyiceberg.table import FileScanTask, StaticTable

from creditrisk_scoring.errors import BulkError, UsageError
from creditrisk_scoring.folders import Folder, s3_store
from creditrisk_scoring.projection import flat

_METADATA = re.compile(r"metadata/(?:v(\d+)|(\d+)-[^/]+)\.metadata\.json")
_HINT = "metadata/version-hint.text"


def read_iceberg(folder: Folder) -> tuple[int, pa.Schema, list[str]]:
    """Return the id of the newest snapshot, its columns, and the names of its files.

    Raises:
        UsageError: The table cannot be read, or has what is not supported.
        BulkError: The folder cannot be reached.
    """
    metadata = f"{_location(folder)}/{_newest(folder)}"
    try:
        table = StaticTable.from_metadata(metadata, _properties())
        snapshot = table.current_snapshot()
        if snapshot is None:
            raise UsageError(f"{folder.url} has no snapshot yet; allowed: a table with rows")
        # What is read is what was written, under the names and types that the table has now.
        schema = table.schema()
        tasks = list(table.scan().plan_files())
    except (ValidationError, ValueError, EOFError, FileNotFoundError) as error:
        raise UsageError(f"{metadata} is no table of Iceberg that can be read: {error}") from error
    except OSError as error:
        raise BulkError(f"{metadata}: {error}") from error
    if defaults := [column.name for column in schema.fields if column.initial_default is not None]:
        raise UsageError(f"{folder.url} has defaults for rows of older files ({', '.join(defaults)}); allowed: none")
    return snapshot.snapshot_id, flat(schema_to_pyarrow(schema)), [_name(folder, table.location(), it) for it in tasks]


def _newest(folder: Folder) -> str:
    """Return the name of the newest metadata: the one that the hint of a table without a catalog names, or the last.

    Raises:
        UsageError: That is not clear, as after two writers of which one has failed.
    """
    names = [folder.name_of(info) for info in folder.files("metadata")]
    found = {name: int(match[1] or match[2]) for name in names if (match := _METADATA.fullmatch(name))}
    hint = (folder.read(_HINT) or b"").decode(errors="replace").strip()
    if hint:
        named = [name for name in found if name in {f"metadata/v{hint}.metadata.json", f"metadata/{hint}"}
                 or name == f"metadata/{hint}.metadata.json"]  # fmt: skip
    else:
        named = [name for name, number in found.items() if number == max(found.values())]
    if len(named) != 1:
        raise UsageError(f"{folder.url}/metadata: which file is the newest is not clear: {', '.join(named) or hint}")
    return named[0]


def _name(folder: Folder, location: str, task: FileScanTask) -> str:
    """Return a data file's path within the folder.

    Raises:
        UsageError: It cannot be read as it is.
    """
    file = task.file
    if task.delete_files:
        raise UsageError(
            f"{folder.url} has rows that are deleted by delete files; allowed: a table without, as after the procedure "
            "rewrite_data_files with delete-file-threshold 1"
        )
    if file.file_format != FileFormat.PARQUET:
        raise UsageError(f"{folder.url} has files of {file.file_format.value}; allowed: PARQUET")
    for root in (location.rstrip("/"), _location(folder)):
        if file.file_path.startswith(f"{root}/"):
            return file.file_path.removeprefix(f"{root}/")
    raise UsageError(f"{folder.url} has files outside of its folder, such as {file.file_path}; allowed: files inside")


def _location(folder: Folder) -> str:
    return folder.url if "://" in folder.url else f"file://{folder.root}"


def _properties() -> dict[str, str]:
    store = s3_store()
    found = {
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        "s3.endpoint": store.endpoint,
        "s3.region": store.region,
    }
    return {name: value for name, value in found.items() if value}
