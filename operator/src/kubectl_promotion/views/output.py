"""Write to the terminal, or to a pipe: colors only on a terminal, and never what would drive one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import yaml
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

ABSENT = "-"


class Format(StrEnum):
    """How a command answers."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def write_document(document: Any, form: Format) -> None:  # noqa: ANN401 - any JSON
    """Write a document for programs; YAML documents are separated, so that a watch can write many."""
    if form == Format.YAML:
        sys.stdout.write("---\n" + yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write(thing: RenderableType) -> None:
    """Write a line, a table or a tree."""
    console().print(plain(thing) if isinstance(thing, str) else thing, soft_wrap=isinstance(thing, str))
    sys.stdout.flush()


def warn(text: str) -> None:
    """Write a line to stderr."""
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(plain(text), soft_wrap=True)


def console() -> Console:
    """Return the console of stdout; a pipe has no width, so lines there are as long as they are."""
    width = None if sys.stdout.isatty() else 1000
    return Console(markup=False, highlight=False, emoji=False, width=width)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table without lines, as kubectl prints them; on a narrow terminal, the last column gives way."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns, 1):
        found.add_column(column, no_wrap=index < len(columns))
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
    return found


def plain(value: object) -> str:
    """Return a value as text that cannot drive a terminal: messages repeat what others wrote."""
    text = ABSENT if value is None or value == "" else str(value)
    return "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
