"""`python -m creditrisk_scoring status`: how far a run is, for people and for programs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import msgspec

from creditrisk_scoring.errors import BulkError
from creditrisk_scoring.folders import open_folder
from creditrisk_scoring.status import Status, WorkerStatus, read_status

log = logging.getLogger("creditrisk_scoring")
_BAR = 40
_DOING = {"done": "done", "running": "in progress", "idle": "not done, and no process is at it",
          "failed": "done, but for files that cannot be scored"}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Say how far a run is; return the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO)
    given = _parser().parse_args(arguments)
    try:
        status = read_status(open_folder(given.target))
    except BulkError as error:
        log.error("%s", error)  # noqa: TRY400 - a traceback would add nothing
        return error.exit_code
    if given.json:
        sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
    else:
        sys.stdout.write(told(status, bar=sys.stdout.isatty()))
    return 0


def told(status: Status, *, bar: bool) -> str:
    """Return a status for people, with a bar if asked for."""
    rows = f"{status.rows_read:,} of {status.rows:,} rows" if status.rows is not None else f"{status.rows_read:,} rows"
    lines = [*([_bar(status)] if bar else []),
             f"{_DOING[status.state]}: {status.shards_done} of {status.shards} shards, {rows} read, "
             f"{status.rejected:,} rejected"]  # fmt: skip
    if status.state == "running":
        left = "time left unknown" if status.seconds_left is None else f"{_duration(status.seconds_left)} left"
        lines.append(f"{status.rows_per_second:,.0f} rows/s, {left}")
    lines += [_worker(worker) for worker in status.workers]
    lines += [f"{one.shard} of {one.file} failed ({one.worker}): {one.error}" for one in status.failed]
    return "\n".join(lines) + "\n"


def _bar(status: Status) -> str:
    # Without a number of rows, shards are what is known.
    part = status.rows_read / status.rows if status.rows else status.shards_done / max(status.shards, 1)
    full = int(min(part, 1.0) * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {min(part, 1.0):.0%}"


def _worker(worker: WorkerStatus) -> str:
    at = f"at {worker.shard}, {worker.rows_per_second:,.0f} rows/s" if worker.shard else "at no shard"
    shards = "1 shard" if worker.shards_done == 1 else f"{worker.shards_done} shards"
    return f"  {worker.name}: {shards}, {worker.rows_read:,} rows, {at}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="creditrisk bulk status",
        description="Say how far a run is, as a whole and by process. Reads the output folder alone.",
        epilog="Exit codes: 0 known, 1 the store cannot be reached, 2 no run there, or wrong usage.",
    )
    parser.add_argument("target", metavar="OUT", help="the output folder, or s3://BUCKET/PREFIX")
    parser.add_argument("--json", action="store_true", help="write the status as JSON")
    return parser
