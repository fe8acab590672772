"""`kubectl_complete-promotion`: how kubectl (1.26 or later) completes the plugin's command line.

kubectl runs it with the words so far, the last of which is incomplete. It answers as Cobra does: one candidate per
line, a description after a tab, and a directive at the end. The candidates are typer's for fish, in the same form.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence

from kubectl_promotion.__main__ import COMPLETION_VARIABLE, PROGRAM, app

# Cobra's ShellCompDirectiveNoFileComp; `lint` takes files, so the default is right there.
_NO_FILES, _DEFAULT = 4, 0


def main() -> None:
    """Write the candidates for the words on the command line."""
    words = sys.argv[1:]
    os.environ |= {
        COMPLETION_VARIABLE: "complete_fish",
        "_TYPER_COMPLETE_ARGS": _line(words),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    candidates = io.StringIO()
    with contextlib.redirect_stdout(candidates), contextlib.suppress(SystemExit):
        app(prog_name=PROGRAM)
    # Without candidates there is an empty line, which kubectl would take for one.
    lines = filter(None, candidates.getvalue().splitlines())
    directive = f":{_DEFAULT if words[:1] == ['lint'] else _NO_FILES}"
    sys.stdout.write("".join(f"{line}\n" for line in (*lines, directive)))


def _line(words: Sequence[str]) -> str:
    """Return the words as one line; it ends with a space if the last word is empty."""
    *complete, last = words or [""]
    return " ".join([PROGRAM, *map(shlex.quote, complete), shlex.quote(last) if last else ""])


if __name__ == "__main__":
    main()
