"""`kubectl promotion`: watch rollouts of models, and act on them.

Exit codes: see `errors.EXIT_CODES`; `kubectl promotion --help` lists them.
"""

from __future__ import annotations

import io
import os
import sys

import typer

from kubectl_promotion.commands import acting, approving, files, models, reading, waiting
from kubectl_promotion.errors import EXIT_CODES, CommandError
from kubectl_promotion.views.output import warn

PROGRAM, COMPLETION_VARIABLE = "kubectl-promotion", "_KUBECTL_PROMOTION_COMPLETE"
_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."
app = typer.Typer(
    name="kubectl promotion", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True,
    epilog=_EPILOG, help="Watch rollouts of models, and act on them, with your own rights in the cluster.",
)  # fmt: skip
for _panel, _commands in {
    "Watch": {"get": reading.get, "list": reading.list_, "status": waiting.status, "history": reading.history,
              "explain": reading.explain, "diff": models.diff},
    "Act": {"approve": approving.approve, "pause": acting.pause, "resume": acting.resume, "abort": acting.abort,
            "promote": acting.promote, "retry": acting.retry, "undo": acting.undo, "follow": acting.follow},
    "Before you apply": {"lint": files.lint},
}.items():  # fmt: skip
    for _name, _command in _commands.items():
        app.command(name=_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command, and end with its exit code."""
    # Signs that a terminal's encoding lacks become question marks instead of an error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # Completion of the program itself, without kubectl, goes by its own name.
    own = COMPLETION_VARIABLE in os.environ or any(word.endswith("-completion") for word in sys.argv[1:])
    try:
        app(prog_name=PROGRAM if own else "kubectl promotion")
    except CommandError as error:
        warn(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        # What a shell expects of a program that the user ended.
        sys.exit(130)


if __name__ == "__main__":
    main()
