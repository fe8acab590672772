"""What people and programs read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table

_ABSENT = "-"


def write_json(document: object) -> None:
    """Write a document for programs, indented, because people look at it, too."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Write rows under their columns' names, or that there are none."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(plain, row))
    write(empty) if not table.rows else _console().print(table)


def write_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Write one thing, field by field."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in fields:
        table.add_row(name, plain(value))
    _console().print(table)


def write(text: str) -> None:
    """Write a line."""
    _console().print(plain(text), soft_wrap=True)


def warn(text: str) -> None:
    """Write to stderr."""
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(plain(text), soft_wrap=True)


def plain(value: object) -> str:
    """Return a value as text that cannot drive a terminal: names and ids are what clients sent."""
    text = _ABSENT if value is None else str(value)
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)


def local_time(text: str | None) -> str:
    """Return a time of the service's, to the second, in the zone of the terminal's user."""
    if text is None:
        return _ABSENT
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _console() -> Console:
    # A pipe has no width: lines are then as long as they are.
    width = None if sys.stdout.isatty() else 1000
    return Console(markup=False, highlight=False, emoji=False, width=width)
