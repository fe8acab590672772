"""`creditrisk outcomes`: report what became of loans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from creditrisk.errors import REFUSED, USAGE, CommandError
from creditrisk.options import Json, client_of
from creditrisk.output import write, write_json, write_table

app = typer.Typer(no_args_is_help=True, help="Report what became of loans.")
_TYPES = {
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
}


@app.callback()
def outcomes() -> None:
    """Keep `load` a subcommand, although it is the only one."""


@app.command()
def load(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help=f"Its name ends in {', '.join(_TYPES)}.")],
    as_json: Json = False,
) -> None:
    """Load a file of outcomes: decision_id, or applicant_id and date; outcome; observed_at.

    Loading it again changes nothing. If rows are rejected, the others are kept, and the exit code is 4.
    """
    media_type = _TYPES.get(file.suffix.lower())
    if media_type is None:
        raise CommandError(f"{file}: the name must end in {', '.join(_TYPES)}", USAGE)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read the file: {error}", USAGE) from error
    client = client_of(context)
    result = client.request("POST", "/v1/outcomes", content=content, content_type=media_type)
    if as_json:
        write_json(result)
    else:
        write(f"{result['added']} added, {result['known']} known already, {result['rejected']} rejected")
        rejected = [(row["row"], row["reason"]) for row in result["rejected_rows"]]
        if rejected:
            write_table(("ROW", "REASON"), rejected, "")
    if result["rejected"]:
        raise typer.Exit(REFUSED)
