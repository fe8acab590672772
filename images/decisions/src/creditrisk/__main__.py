"""`creditrisk`: decisions, outcomes, timelines, drift, training data and bulk scoring, from the command line.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 refused: the request, for lack of a permission, or rows of a
file; 5 the service cannot be reached or failed. `decisions verify`, `decisions replay` and `drift` have 3 for a
difference, and 4 for what is not there. `bulk` has no other codes than 0, 1 and 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from creditrisk import bulk, decisions, drift, models, outcomes
from creditrisk.errors import CommandError
from creditrisk.output import warn

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found (decisions verify and replay: a difference; drift "
           "show and run: something drifted), 4 refused, 5 unreachable.",
)  # fmt: skip
app.add_typer(decisions.app, name="decisions")
app.add_typer(outcomes.app, name="outcomes")
app.add_typer(drift.app, name="drift")
app.add_typer(bulk.app, name="bulk")
app.command(name="timeline")(models.timeline)
app.command(name="training-data")(models.training_data)


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(envvar="CREDITRISK_URL", help="Of the service, http://host:port.")] = None,
    key: Annotated[str | None, typer.Option(help="An API key; others on this machine can see it.")] = None,
    key_file: Annotated[Path | None, typer.Option(envvar="CREDITRISK_KEY_FILE", help="A file with the key.")] = None,
) -> None:
    """Read decisions, report outcomes, and get training data from a credit-risk stack."""
    context.obj = (url, key, key_file)


def main() -> None:
    """Run the command, and end with its exit code."""
    try:
        app()
    except CommandError as error:
        warn(str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
