"""`python -m trainer`."""

import gc
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from trainer import termination
from trainer.errors import TrainerError

logger = logging.getLogger("trainer")


def main(arguments: Sequence[str]) -> int:
    """Train as configured by the arguments and the environment; return the exit code."""
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

    from trainer.data.problems import InvalidDataError  # noqa: PLC0415
    from trainer.pipeline import run  # noqa: PLC0415
    from trainer.settings import from_process  # noqa: PLC0415
    from trainer.tracking.retries import log_retries  # noqa: PLC0415

    log_retries()

    as_json = "--json" in arguments
    try:
        result = run(from_process(arguments))
    except TrainerError as error:
        logger.error("%s", error)  # noqa: TRY400
        if as_json:
            report = json.loads(error.to_json()) if isinstance(error, InvalidDataError) else {}
            sys.stdout.write(json.dumps({"error": str(error), "exit_code": error.exit_code, **report}) + "\n")
        return error.exit_code
    except MlflowException as error:
        logger.exception("MLflow failed (%s)", error.error_code)
        return 4
    if as_json:
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


if __name__ == "__main__":
    # Imports and the export create a million long-lived objects. Scanning them for cycles every 700 allocations, and
    # once more at exit, took a third of a short run's CPU time.
    gc.set_threshold(100_000)
    exit_code = main(sys.argv[1:])
    gc.freeze()
    sys.exit(exit_code)
