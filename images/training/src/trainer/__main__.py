"""`python -m trainer` and `python -m trainer describe`."""

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trainer import termination
from trainer.errors import TrackingError, TrainerError
from trainer.tracing import exported

logger = logging.getLogger("trainer")


def main(arguments: Sequence[str]) -> int:
    """Train as configured by the arguments and the environment, or describe a file; return the exit code."""
    if arguments and arguments[0] == "describe":
        return _describe(arguments[1:])
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    termination.raise_on_sigterm()
    # MLflow's hints and progress bars would drown out our own log lines.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Nothing about a lender's training runs may leave its network.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # On shared cores, threads that spin while they wait for each other make training several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # One of the two settings that make matrix products on a GPU deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Imported here because it takes seconds, during which SIGTERM must already be handled.
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from trainer.pipeline import run  # noqa: PLC0415
    from trainer.settings import from_process  # noqa: PLC0415
    from trainer.tracking.retries import log_retries  # noqa: PLC0415

    log_retries()

    as_json = "--json" in arguments
    try:
        settings = from_process(arguments)
        with exported(settings.tracing_endpoint, settings.traceparent, {
            "creditrisk.model.name": settings.model_name, "k8s.job.name": settings.job,
        }):  # fmt: skip
            result = run(settings)
    except TrainerError as error:
        return _failed(error, as_json=as_json)
    except MlflowException as error:
        return _failed(TrackingError(f"MLflow failed ({error.error_code}): {error.message}"), as_json=as_json)
    if as_json:
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


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

    try:
        with tempfile.TemporaryDirectory() as scratch:
            proposal = describe(given.file, target=given.target, scratch=Path(scratch))
    except TrainerError as error:
        return _failed(error, as_json=given.json)
    if given.json:
        sys.stdout.write(proposal.to_json() + "\n")
        return 0
    sys.stdout.write(json.dumps(proposal.declaration, indent=1, ensure_ascii=False) + "\n")
    for warning in proposal.warnings:
        sys.stderr.write(f"{warning}\n")
    sys.stderr.write("The ranges are wider than the data, and reason codes, units and descriptions are placeholders.\n")
    return 0


def _failed(error: TrainerError, *, as_json: bool) -> int:
    from trainer.data.problems import InvalidDataError  # noqa: PLC0415 - imports pandas

    logger.error("%s", error)
    if as_json:
        report = json.loads(error.to_json()) if isinstance(error, InvalidDataError) else {}
        sys.stdout.write(json.dumps({"error": str(error), "exit_code": error.exit_code, **report}) + "\n")
    return error.exit_code


if __name__ == "__main__":
    # Imports and the export create a million long-lived objects. Scanning them for cycles every 700 allocations, and
    # once more at exit, took a third of a short run's CPU time.
    gc.set_threshold(100_000)
    exit_code = main(sys.argv[1:])
    gc.freeze()
    sys.exit(exit_code)
