"""`python -m trainer` and `python -m trainer describe`."""

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainer.errors import TrainerError


def main(arguments: Sequence[str]) -> int:
    """Train as configured by the arguments and the environment, or describe a file; return the exit code."""
    if arguments and arguments[0] == "describe":
        return _describe(arguments[1:])
    from trainer.process import configure, failed, train  # noqa: PLC0415

    configure()
    # Imported here because it takes seconds, during which SIGTERM must already be handled.
    from torch.distributed import is_torchelastic_launched  # noqa: PLC0415

    from trainer.settings import from_process  # noqa: PLC0415

    try:
        settings = from_process(arguments)
    except TrainerError as error:
        return failed(error, as_json="--json" in arguments)
    if settings.processes * settings.pods == 1 or is_torchelastic_launched():
        return train(settings)
    from trainer.launching import launch  # noqa: PLC0415

    return launch(settings, arguments)


def _describe(arguments: Sequence[str]) -> int:
    """Print a proposed feature declaration for a file, and on stderr what to look at; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer describe",
        description="Propose a feature declaration for a data file: the JSON to edit on stdout, what to look at on "
        "stderr. Exit codes: 0 success, 2 invalid data or arguments.",
    )
    parser.add_argument("file", help="a path or URL of a CSV (plain or gzipped) or Parquet file")
    parser.add_argument("--target", default="", help="the column with the outcome (default: guessed)")
    parser.add_argument("--json", action="store_true", help="print declaration and warnings as one JSON object")
    given = parser.parse_args(arguments)
    from trainer.data.describe import describe  # noqa: PLC0415 - takes seconds, which --help need not
    from trainer.process import failed  # noqa: PLC0415

    try:
        with tempfile.TemporaryDirectory() as scratch:
            proposal = describe(given.file, target=given.target, scratch=Path(scratch))
    except TrainerError as error:
        return failed(error, as_json=given.json)
    if given.json:
        sys.stdout.write(proposal.to_json() + "\n")
        return 0
    sys.stdout.write(json.dumps(proposal.declaration, indent=1, ensure_ascii=False) + "\n")
    for warning in proposal.warnings:
        sys.stderr.write(f"{warning}\n")
    sys.stderr.write("The ranges are wider than the data, and reason codes, units and descriptions are placeholders.\n")
    return 0


if __name__ == "__main__":
    # Imports and the export create a million long-lived objects. Scanning them for cycles every 700 allocations, and
    # once more at exit, took a third of a short run's CPU time.
    gc.set_threshold(100_000)
    exit_code = main(sys.argv[1:])
    gc.freeze()
    sys.exit(exit_code)
