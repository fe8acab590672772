"""Commands that work where data is: another package of this project runs them, if it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass

from creditrisk.errors import USAGE, CommandError

# Settings of a command whose arguments are passed on.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@dataclass(frozen=True)
class Program:
    """A package that can be run.

    Attributes:
        module: Of Python.
        needs: Packages that it imports beside this program's.
        where: Where it works, for people.
        advice: How to get it.
    """

    module: str
    needs: tuple[str, ...]
    where: str
    advice: str


DECISIONS = Program(
    "decisions", ("psycopg", "boto3", "pyarrow", "alembic", "duckdb"), "this works where the database is",
    "pip install 'credit-risk-platform[decisions]', or run it in a pod of the image `decisions`",
)  # fmt: skip
BULK = Program(
    "creditrisk_scoring", ("scorer", "onnxruntime", "pyarrow", "duckdb", "numpy", "aiohttp", "boto3"),
    "this scores on this machine", "pip install 'credit-risk-platform[cli,bulk]'",
)  # fmt: skip


def run_where_installed(program: Program, command: str, arguments: list[str]) -> int:
    """Run a command of another package and return its exit code.

    Raises:
        CommandError: Packages are missing.
    """
    missing = [name for name in (program.module, *program.needs) if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(
            f"{program.where}, and needs packages that are not installed: {', '.join(missing)}; {program.advice}", USAGE
        )
    return subprocess.run([sys.executable, "-m", program.module, command, *arguments]).returncode
