"""`creditrisk bulk`: score more applications than a service should be asked for."""

from __future__ import annotations

import typer

from creditrisk.installed import BULK, PASSED_ON, run_where_installed

app = typer.Typer(no_args_is_help=True, help="Score a whole folder of applications.")


@app.command(context_settings=PASSED_ON)
def score(context: typer.Context) -> None:
    """Score all applications in a folder of Parquet, CSV or Arrow files, on disk or in S3; see --help."""
    raise typer.Exit(run_where_installed(BULK, "score", context.args))


@app.command(context_settings=PASSED_ON)
def status(context: typer.Context) -> None:
    """Say how far a run is, as a whole and by process, with the time left; see --help."""
    raise typer.Exit(run_where_installed(BULK, "status", context.args))
