"""Tables of Delta Lake and Apache Iceberg as input: the files of one snapshot, listed by the formats' own readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from creditrisk_scoring.errors import UsageError
from creditrisk_scoring.folders import Folder
from creditrisk_scoring.projection import Projection


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table as it was when it was listed.

    Attributes:
        format: `delta` or `iceberg`.
        version: Delta's version, or the id of Iceberg's snapshot.
        columns: The table's columns, as `Projection` has them: a serialized schema of Arrow.
    """

    format: str
    version: int
    columns: bytes

    def projection(self, constants: Mapping[str, str | None]) -> Projection:
        """Return how one of its files becomes rows.

        Args:
            constants: Of the file, as listed.
        """
        return Projection(pa.ipc.read_schema(pa.py_buffer(self.columns)), constants)


@dataclass(frozen=True)
class DataFile:
    """A file of a snapshot.

    Attributes:
        name: Its path within the table's folder.
        constants: The values of columns that it does not have.
    """

    name: str
    constants: Mapping[str, str | None] = field(default_factory=dict)


def list_snapshot(folder: Folder) -> tuple[Snapshot, list[DataFile]] | None:
    """Return the newest snapshot of the table that a folder is, with its files by name; None if it is no table.

    Raises:
        UsageError: The table cannot be read, needs what is not supported, or its reader is not installed.
        BulkError: The folder cannot be reached.
    """
    if folder.files("_delta_log"):
        read, package = _delta, "delta"
    elif any(info.path.endswith(".metadata.json") for info in folder.files("metadata")):
        read, package = _iceberg, "iceberg"
    else:
        return None
    try:
        snapshot, files = read(folder)
    except ImportError as error:
        raise UsageError(
            f"{folder.url} is a table of {package}, whose reader is not installed ({error}); needed: "
            f"pip install 'credit-risk-platform[{package}]'"
        ) from error
    return snapshot, sorted(files, key=lambda file: file.name)


def table_within(name: str) -> str | None:
    """Return the folder of the table that a file's path shows to be there; None if it shows none."""
    folder, _, file = name.rpartition("/")
    if f"/{folder}/".endswith("/_delta_log/"):
        return folder.removesuffix("_delta_log").rstrip("/")
    if f"/{folder}/".endswith("/metadata/") and file.endswith(".metadata.json"):
        return folder.removesuffix("metadata").rstrip("/")
    return None


_Read = tuple[Snapshot, list[DataFile]]


def _delta(folder: Folder) -> _Read:
    from creditrisk_scoring.delta import read_delta  # noqa: PLC0415 - its package is optional

    version, schema, files = read_delta(folder)
    return Snapshot("delta", version, schema.serialize().to_pybytes()), [DataFile(*file) for file in files.items()]


def _iceberg(folder: Folder) -> _Read:
    from creditrisk_scoring.iceberg import read_iceberg  # noqa: PLC0415

    version, schema, files = read_iceberg(folder)
    return Snapshot("iceberg", version, schema.serialize().to_pybytes()), [DataFile(name) for name in files]
