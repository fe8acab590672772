"""`python -m decisions verify`: says whether the decisions are those that were written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date

import msgspec
import psycopg

from decisions.archive.command import archive_bucket, seal_bucket
from decisions.archive.verification import Verification, verify
from decisions.errors import DecisionsError, DifferenceError, UsageError
from decisions.settings import StoreSettings


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 3 if something is not as it was written."""
    parser = argparse.ArgumentParser(
        prog="python -m decisions verify",
        description="Recomputes hashes, chains and seals, and names each record that was changed, removed or inserted.",
    )
    for name, where, words in (
        ("--from", "since", "first seal to verify"),
        ("--to", "until", "last one; without it, what is not sealed yet is verified, too"),
    ):
        parser.add_argument(name, dest=where, type=date.fromisoformat, metavar="YYYY-MM-DD", help=words)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    if options.since and options.until and options.since > options.until:
        raise UsageError(f"--from {options.since} is after --to {options.until}")
    settings = StoreSettings()
    try:
        with closing(psycopg.connect(settings.conninfo(), autocommit=True)) as connection:
            result = verify(connection, archive_bucket(settings), seal_bucket(settings), since=options.since,
                            until=options.until)  # fmt: skip
    except psycopg.Error as error:
        raise DecisionsError(f"verify: {' '.join(str(error).split())}") from error
    sys.stdout.write(f"{msgspec.json.encode(result).decode() if options.json else _as_text(result)}\n")
    return DifferenceError.exit_code if result.findings.differences else 0


def _as_text(result: Verification) -> str:
    findings = result.findings
    lines = [f"{difference.kind}: {difference.message}" for difference in findings.differences]
    verdict = f"{len(lines)} differences" if lines else "no difference"
    summary = (
        f"{verdict}: {findings.records} records verified, by {result.seals} seals and {result.unsealed} without a seal "
        f"yet; the inputs of {findings.forgotten} were forgotten"
    )
    return "\n".join([*lines, summary])
