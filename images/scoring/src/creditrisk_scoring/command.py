"""`python -m creditrisk_scoring score`: the options, the run, and what is said of it."""

from __future__ import annotations

import argparse
import logging
import math
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from creditrisk_scoring.claims import Claims
from creditrisk_scoring.errors import INCOMPLETE, BulkError, UsageError
from creditrisk_scoring.folders import open_folder
from creditrisk_scoring.manifest import Request, read_or_make
from creditrisk_scoring.progress import Several, shown_progress
from creditrisk_scoring.running import Progress, run_all
from creditrisk_scoring.scoring import Version, load_version
from creditrisk_scoring.shards import Run
from scorer.model.scorecard import Scorecard

log = logging.getLogger("creditrisk_scoring")


def main(arguments: Sequence[str]) -> int:
    """Score a folder; return the exit code."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, level=logging.INFO)
    try:
        given = options_parser().parse_args(arguments)
        with tempfile.TemporaryDirectory() as scratch:
            found = _score(given, _version(given, Path(scratch)))
    except BulkError as error:
        log.error("%s", error)  # noqa: TRY400 - a traceback would add nothing
        return error.exit_code
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n" if given.json else _told(found, given.target))
    for failed in found["failed_files"]:
        log.error("not scored: %s", failed["problem"])
    return 0 if found["complete"] else INCOMPLETE


def _score(given: argparse.Namespace, version: Version) -> dict[str, Any]:
    if given.reasons > version.contract.max_reasons:
        raise UsageError(f"--reasons {given.reasons}; this model can give at most {version.contract.max_reasons}")
    source, target = open_folder(given.source), open_folder(given.target)
    card = version.scorecard
    request = Request(
        source.root, dict(version.digests), (card.base_points, card.base_odds, card.points_to_double), given.reasons,
        given.where, None if given.keep is None else tuple(given.keep.split(",")), given.shard_rows,
    )  # fmt: skip
    manifest = read_or_make(source, target, request, version)
    claims = Claims(target, given.worker, given.lease)
    with _progress(given.metrics_port) as progress:
        return run_all(Run(manifest, source, target, version), claims, progress)


@contextmanager
def _progress(metrics_port: int) -> Iterator[Progress]:
    with ExitStack() as parts:
        shown = parts.enter_context(shown_progress())
        if not metrics_port:
            yield shown
            return
        # Pods have the package; machines of people need it only for this.
        from creditrisk_scoring.metrics import served_metrics  # noqa: PLC0415

        yield Several(shown, parts.enter_context(served_metrics(metrics_port)))


def _version(given: argparse.Namespace, scratch: Path) -> Version:
    folder: Path | None = given.model
    if folder is None:
        if not given.registry:
            raise UsageError("--version needs --registry, or MLFLOW_TRACKING_URI in the environment")
        # Its client is needed only here.
        from creditrisk_scoring.registry import fetch_version  # noqa: PLC0415

        folder = fetch_version(given.registry, given.name, given.version, scratch)
    return load_version(folder, given.scorecard)


def _told(found: dict[str, Any], target: str) -> str:
    """Return a run's summary for people."""
    lines = [
        f"{found[name]:>14,}  {name}" for name in ("rows", "scored", "rejected", "excluded", "approved", "declined")
    ]
    lines += [f"{count:>14,}  rejected for {field}" for field, count in found["rejected_by_field"].items()]
    lines += _drift(found)
    if failed := [one["file"] for one in found["failed_files"]]:
        lines.append(f"not scored, or not wholly: {', '.join(failed)}; once mended, the same command does that")
    return "\n".join([*lines, f"the results are in {target}/scores"]) + "\n"


def _drift(found: dict[str, Any]) -> list[str]:
    """Return the distance of scores, and of the feature that is furthest, from the training data."""
    known = {name: value for name, value in (found["feature_psi"] or {}).items() if value is not None}
    furthest = (
        f"; most of the features: {known[name]:.3f} ({name})"
        if (name := max(known, key=lambda one: known[one], default=""))
        else ""
    )
    return [] if found["psi"] is None else [f"PSI against the training data: {found['psi']:.3f}{furthest}"]


def options_parser() -> argparse.ArgumentParser:
    """Return what reads the options."""
    parser = argparse.ArgumentParser(
        prog="creditrisk bulk score",
        description="Score all applications in a folder of Parquet, CSV or Arrow files. Killed at any time, the same "
        "command does what is left. Several processes, on several machines, share the work if they have the same "
        "folders.",
        epilog="Exit codes: 0 done, 1 some shards failed or a store cannot be reached, 2 wrong usage, 3 done, but for "
        "files that cannot be scored.",
    )
    parser.add_argument("source", metavar="IN", help="a folder, or s3://BUCKET/PREFIX")
    parser.add_argument("target", metavar="OUT", help="the same, for the results")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=Path, metavar="FOLDER", help="has the version's model.onnx and contract.json")
    which.add_argument("--version", metavar="N", help="of the registered model")
    parser.add_argument("--name", default="credit-risk", help="of the registered model (credit-risk)")
    parser.add_argument("--registry", default=os.environ.get("MLFLOW_TRACKING_URI"), metavar="URL",
                        help="MLflow's address (MLFLOW_TRACKING_URI)")  # fmt: skip
    parser.add_argument("--reasons", type=_whole(0), default=0, metavar="N", help="reason codes of each row (0)")
    parser.add_argument("--where", default="", metavar="SQL", help="score only rows for which this is true")
    parser.add_argument("--keep", metavar="NAMES", help="columns to copy to the results, with commas between them; by "
                        "default all that are no features")  # fmt: skip
    parser.add_argument("--shard-rows", type=_whole(1), default=1_000_000, metavar="N",
                        help="about how many rows are done together (1000000)")  # fmt: skip
    parser.add_argument("--scorecard", type=_scorecard, default=Scorecard(600, 50, 20), metavar="POINTS,ODDS,PDO",
                        help="the scale of score points, as the scoring service has it (600,50,20)")  # fmt: skip
    parser.add_argument("--worker", default=f"{socket.gethostname()}:{os.getpid()}", metavar="NAME",
                        help="of this process, for the run's status (machine and process)")  # fmt: skip
    parser.add_argument("--lease", type=_seconds, default=60.0, metavar="SECONDS", help="after how long without a "
                        "sign of a process others take its shard over; in S3 at least 4 (60)")  # fmt: skip
    parser.add_argument("--metrics-port", type=_whole(0), default=0, metavar="N",
                        help="serve metrics for Prometheus there; 0 for none (0)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="write the summary as JSON")
    return parser


def _whole(least: int) -> Any:  # noqa: ANN401 - what argparse calls
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from {least} on")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number of seconds above 0")
    return seconds


def _scorecard(text: str) -> Scorecard:
    try:
        points, odds, doubling = map(float, text.split(","))
    except ValueError:
        points = odds = doubling = 0.0
    if odds <= 0 or doubling <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: POINTS,ODDS,PDO such as 600,50,20")
    return Scorecard(points, odds, doubling)
