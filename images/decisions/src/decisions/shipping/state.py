"""How far a log is shipped, in a file beside its segments.

Postgres knows the last record of each log, so the file may be lost. With it, a log goes on where it was even if the
database was set back to a backup, or dropped the month of the log's last record: verification then sees the gap.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from decisions.records.build import Link


class LogState(msgspec.Struct, frozen=True):
    """How far a log is shipped.

    Attributes:
        group: The last group that needs no more work.
        sequence: Of the last record; 0 if there is none.
        hash: Of the last record, in hex.
        damaged: The names of segments with a damaged part, which are set aside when they are complete.
    """

    group: int = 0
    sequence: int = 0
    hash: str = Link().hash.hex()
    damaged: tuple[str, ...] = ()

    @property
    def link(self) -> Link:
        """What the next record follows."""
        return Link(self.sequence, bytes.fromhex(self.hash))

    def after(self, group: int, link: Link) -> LogState:
        """Return the state after a group, whose last record is `link`."""
        return msgspec.structs.replace(self, group=group, sequence=link.sequence, hash=link.hash.hex())

    def with_damaged(self, segment: str) -> LogState:
        """Return the state with another segment that has a damaged part."""
        return msgspec.structs.replace(self, damaged=tuple(sorted({*self.damaged, segment})))

    def save(self, file: Path) -> None:
        """Write it to a file. It is not synced to disk: a lost or torn file is made up for by the database."""
        partial = file.with_suffix(".new")
        partial.write_bytes(msgspec.json.encode(self))
        partial.replace(file)


def read_state(file: Path) -> LogState:
    """Return the state in a file; the initial one if there is none or it is torn."""
    try:
        state = msgspec.json.decode(file.read_bytes(), type=LogState)
        return state if len(state.link.hash) == 32 else LogState()
    except (FileNotFoundError, msgspec.MsgspecError, ValueError):
        return LogState()
