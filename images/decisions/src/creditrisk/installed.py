"""Commands that work where the database is: `python -m decisions` runs them, if it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from creditrisk.errors import USAGE, CommandError

# Settings of a command whose arguments are passed on.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
# What `python -m decisions` needs beside this program.
_PACKAGES = ("decisions", "psycopg", "boto3", "pyarrow", "alembic", "duckdb")


def run_where_installed(command: str, arguments: list[str]) -> int:
    """Run a command of `python -m decisions` and return its exit code.

    Raises:
        CommandError: Packages are missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(
            f"this works where the database is, and needs packages that are not installed: {', '.join(missing)}; "
            "pip install 'credit-risk-platform[decisions]', or run it in a pod of the image `decisions`",
            USAGE,
        )
    return subprocess.run([sys.executable, "-m", "decisions", command, *arguments]).returncode
