"""`creditrisk drift`: what changed in applications, scores and outcomes, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from creditrisk.errors import DIFFERENT, NOT_FOUND, REFUSED, CommandError
from creditrisk.installed import DECISIONS, PASSED_ON, run_where_installed
from creditrisk.options import Json, client_of
from creditrisk.output import local_time, write, write_fields, write_json

app = typer.Typer(no_args_is_help=True, help="Show the newest drift report, or make one.")
_Model = Annotated[str, typer.Argument(help="The registered model.")]
_DEFAULT = "credit-risk"


@app.command()
def show(context: typer.Context, model: _Model = _DEFAULT, as_json: Json = False) -> None:
    """Show what the newest report found; exit code 3 if something drifted, 4 if there is no report."""
    try:
        found = client_of(context).request("GET", f"/v1/models/{quote(model, safe='')}/drift")
    except CommandError as error:
        if error.exit_code == NOT_FOUND:
            # 3 means a drift here.
            raise CommandError(str(error), REFUSED) from error
        raise
    write_json(found) if as_json else _write(found)
    if found["verdict"] == "drifted":
        raise typer.Exit(DIFFERENT)


@app.command()
def report(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="The file to write; .json for JSON, else HTML.")],
    model: _Model = _DEFAULT,
) -> None:
    """Write the newest report as one HTML file."""
    form = "json" if output.suffix == ".json" else "html"
    path = f"/v1/models/{quote(model, safe='')}/drift/report"
    with client_of(context).download(path, {"format": form}) as answer:
        content = answer.read()
    try:
        output.write_bytes(content)
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror}") from error
    write(f"the report is in {output}")


@app.command(context_settings=PASSED_ON)
def run(context: typer.Context) -> None:
    """Make a report of the decision log or of Parquet files; see --help. Exit code 3 if something drifted."""
    raise typer.Exit(run_where_installed(DECISIONS, "drift", context.args))


def _write(found: dict[str, Any]) -> None:
    write(found["headline"])
    write_fields([
        ("model", f"{found['model']} {found['version']}"),
        ("verdict", found["verdict"]),
        ("made", local_time(found["created_at"])),
    ])  # fmt: skip
    for finding in found["findings"]:
        since = f", since {finding['since']}" if finding["since"] else ""
        write(f"\n{finding['subject']}{since}")
        write_fields([
            ("  what", finding["what"]), ("  how bad", finding["how_bad"]), ("  what to do", finding["what_to_do"]),
        ])  # fmt: skip
