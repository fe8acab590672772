"""Options that commands share."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from creditrisk.client import Client

Json = Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")]
Since = Annotated[str | None, typer.Option("--from", help="From this date or time on (ISO 8601, UTC).")]
Until = Annotated[str | None, typer.Option("--to", help="Before this date or time.")]


def client_of(context: typer.Context) -> Client:
    """Return the client of the program's options; they are checked only by commands that need them."""
    url, key, key_file = cast("tuple", context.find_root().obj)  # type: ignore[type-arg]
    return Client.of(url, key, key_file)
