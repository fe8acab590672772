"""The manifest: the document by which a backup is found, checked and restored."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Digest = str


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Dump(_Document):
    """The database's dump: `size` in bytes, `sha256` in hex."""

    size: int
    sha256: Digest = Field(pattern="^[0-9a-f]{64}$")


class Table(_Document):
    """One table: its rows, and a checksum over them that does not depend on their order."""

    name: str
    rows: int
    checksum: int


class Version(_Document):
    """A registered model version: where its files are, and the digests in its tags by file name."""

    name: str
    version: int
    location: str
    digests: dict[str, Digest]


class Database(_Document):
    """What the dump's own snapshot holds.

    Attributes:
        taken_at: When the snapshot was taken: what was committed later is not in the backup.
        mlflow_revision: The schema's Alembic revision.
        size_bytes: What the database takes on disk.
    """

    taken_at: datetime
    server_version: str
    size_bytes: int
    mlflow_revision: str
    versions: tuple[Version, ...]


class Artifact(_Document):
    """An object of the artifact bucket; its content is the backup's object named by `sha256`."""

    key: str
    size: int
    sha256: Digest = Field(pattern="^[0-9a-f]{64}$")
    etag: str
    content_type: str


class Problem(_Document):
    """A registered version whose files did not match its tags when the backup was taken."""

    name: str
    version: int
    problem: str


class DecisionDatabase(_Document):
    """What the snapshot of the decision log's database holds; `revision` is its schema's."""

    taken_at: datetime
    server_version: str
    size_bytes: int
    revision: str


class DecisionLog(_Document):
    """The decision log in a backup: what its database held, the dump, and the tables."""

    database: DecisionDatabase
    dump: Dump
    tables: tuple[Table, ...]


class Manifest(_Document):
    """A complete backup: a backup without manifest does not exist."""

    format: Literal[1] = 1
    id: str
    mlflow_version: str
    database: Database
    dump: Dump
    tables: tuple[Table, ...]
    artifacts: tuple[Artifact, ...]
    problems: tuple[Problem, ...]
    decisions: DecisionLog | None = None

    @property
    def artifact_bytes(self) -> int:
        """The size of all artifacts in bytes."""
        return sum(artifact.size for artifact in self.artifacts)

    def rows(self, table: str) -> int:
        """Return how many rows a table of the schema `public` has, 0 if there is no such table."""
        return next((found.rows for found in self.tables if found.name == f"public.{table}"), 0)

    @property
    def empty(self) -> bool:
        """Whether the database holds neither runs nor registered versions."""
        return not self.rows("runs") and not self.rows("model_versions")


def parse_tables(text: str) -> tuple[Table, ...]:
    """Read what checksums.sql printed: name, rows and checksum, separated by tabs."""
    fields = [line.split("\t") for line in text.splitlines() if line]
    return tuple(Table(name=name, rows=int(rows), checksum=int(checksum)) for name, rows, checksum in fields)


def format_tables(tables: tuple[Table, ...]) -> str:
    """Write what compare.sql reads."""
    return "".join(f"{table.name}\t{table.rows}\t{table.checksum}\n" for table in tables)
