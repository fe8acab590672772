"""`python -m decisions COMMAND`: ships, keeps, and serves decisions, and takes outcomes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from pydantic import ValidationError

from decisions.errors import DecisionsError

logger = logging.getLogger("decisions")
# The module with each command's `main(arguments)`, which returns its exit code. It is imported only to run it: no
# command should pay for the memory of another's libraries.
COMMANDS = {
    "migrate": "decisions.database.migrate",
    "archive": "decisions.archive.command",
    "verify": "decisions.archive.verify_command",
    "export": "decisions.archive.export_command",
    "serve": "decisions.service.process",
    "load-outcomes": "decisions.outcomes.command",
    "drift": "decisions.drift.command",
    "ship": "decisions.shipping.command",
}


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad usage or settings, 3 a difference was found."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    module = COMMANDS.get(arguments[0] if arguments else "")
    if module is None:
        sys.stderr.write(f"usage: python -m decisions {{{','.join(COMMANDS)}}} ...\n")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    command: Callable[[Sequence[str]], int] = import_module(module).main
    try:
        return command(arguments[1:])
    except DecisionsError as error:
        logger.error("%s", error)  # noqa: TRY400 - a traceback would add nothing
        return error.exit_code
    except ValidationError as error:
        for found in error.errors():
            name = "_".join(str(part) for part in found["loc"]).upper()
            logger.error("setting DECISIONS_%s: %s", name, found["msg"])  # noqa: TRY400
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
