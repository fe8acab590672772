"""The arguments of `python -m decisions drift`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from decisions.errors import UsageError

_DESCRIPTION = """Compares the decisions of the last days with the data that the model learned from, and says how well
its probabilities hold. Reads the decision log's database and archive, or Parquet files."""
_EPILOG = "Exit codes: 0 nothing drifted, 1 failed, 2 wrong usage, 3 something drifted (see --exit-zero)."


@dataclass(frozen=True)
class Options:
    """What a run does; each attribute is an option."""

    decisions: Sequence[Path]
    outcomes: Path | None
    contract: Path | None
    reference: Path | None
    model: str | None
    since: date | None
    until: date | None
    days: int
    compare_days: int
    segments: Sequence[str]
    psi_limit: float
    share_limit: float
    confidence: float
    matured_months: int
    loan_months: int
    memory_mebibytes: int
    output: Path | None
    json: bool
    publish: bool
    exit_zero: bool


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line.

    Raises:
        UsageError: They do not fit together.
    """
    options = Options(**vars(_parser().parse_args(arguments)))
    if options.decisions and not options.contract:
        raise UsageError("--decisions needs --contract: the contract.json of the version that decided")
    if options.decisions and options.publish:
        raise UsageError("--publish is for the decision log's own decisions, and not for those of --decisions")
    if not options.decisions and (options.outcomes or options.contract):
        raise UsageError("--outcomes and --contract go with --decisions; the decision log has its own")
    if options.since and options.until and options.since >= options.until:
        raise UsageError(f"--from {options.since} is not before --to {options.until}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m decisions drift", description=_DESCRIPTION, epilog=_EPILOG)
    files = parser.add_argument_group("files instead of the decision log")
    files.add_argument(
        "--decisions",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="Parquet files of `decisions export`, or a folder with a copy of the archive",
    )
    files.add_argument(
        "--outcomes", type=Path, metavar="FILE", help="Parquet or CSV with decision_id, outcome and observed_at"
    )
    files.add_argument("--contract", type=Path, metavar="FILE", help="contract.json of the version that decided")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="training-reference.json of the version, instead of the registry's",
    )
    parser.add_argument("--model", metavar="NAME", help="the registered model; needed if several decided")
    parser.add_argument("--from", dest="since", type=_day, metavar="DAY", help="the first day (UTC) that is judged")
    parser.add_argument(
        "--to",
        dest="until",
        type=_day,
        metavar="DAY",
        help="the day after the last one; today if not given, so that the last one is over",
    )
    parser.add_argument("--days", type=_whole(1), default=7, metavar="N", help="how many days, without --from (7)")
    parser.add_argument(
        "--compare-days",
        type=_whole(0),
        default=28,
        metavar="N",
        help="how many days before are compared with where training has no reference: segments, reasons (28)",
    )
    parser.add_argument(
        "--segment",
        dest="segments",
        action="append",
        default=[],
        metavar="NAME",
        help="a feature, or `client`; repeatable (all protected attributes, and client)",
    )
    parser.add_argument(
        "--psi-limit",
        type=_number(0, 10),
        default=0.1,
        metavar="X",
        help="PSI from which a distribution has drifted, if it surely is above (0.1)",
    )
    parser.add_argument(
        "--share-limit",
        type=_number(0, 1),
        default=0.02,
        metavar="X",
        help="by how much shares of missing and unknown values may rise (0.02)",
    )
    parser.add_argument(
        "--confidence",
        type=_number(0.5, 0.9999),
        default=0.99,
        metavar="X",
        help="with which all verdicts of a report hold together (0.99)",
    )
    parser.add_argument(
        "--matured-months", type=_whole(1), default=12, metavar="N", help="how old loans are whose outcomes count (12)"
    )
    parser.add_argument(
        "--loan-months", type=_whole(1), default=24, metavar="N", help="how many months of loans performance is of (24)"
    )
    parser.add_argument(
        "--memory-mebibytes",
        type=_whole(128),
        default=256,
        metavar="N",
        help="how much memory aggregation may take (256)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report as one HTML file")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="keep the report in the database, for the service, and in MLflow if it is configured",
    )
    parser.add_argument("--exit-zero", action="store_true", help="end with 0 although something drifted")
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; allowed: a date such as 2026-01-31") from error


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from {least} on")
        return int(text)

    return read


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        # Written so that NaN is refused, too.
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number between {low:g} and {high:g}")
        return value

    return read
