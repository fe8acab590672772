"""One process of a training run, from its settings to its exit code."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from trainer import termination
from trainer.errors import FollowedError, PeerLostError, TrackingError, TrainerError
from trainer.tracing import exported

if TYPE_CHECKING:
    from trainer.learning.group import Group
    from trainer.settings import Settings

logger = logging.getLogger("trainer")


def configure() -> None:
    """Set up logging, SIGTERM and what libraries read from the environment when they are imported."""
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


def train(settings: Settings) -> int:
    """Train, alone or as one of the processes that torchrun started; return the exit code."""
    # Imported here because it takes seconds.
    from trainer.learning.group import joined  # noqa: PLC0415

    leads = False
    try:
        with joined() as group:
            leads = not group.rank
            if not group.rank:
                return _lead(settings, group)
            # What is to be said says the process that leads.
            logger.setLevel(logging.WARNING)
            from trainer.following import follow  # noqa: PLC0415

            follow(settings, group)
            return 0
    except FollowedError as error:
        return error.exit_code
    except PeerLostError as error:
        logger.warning("%s", error)
        return error.exit_code
    except TrainerError as error:
        return failed(error, as_json=settings.json_output and leads)


def _lead(settings: Settings, group: Group) -> int:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from trainer.pipeline import run  # noqa: PLC0415
    from trainer.tracking.retries import log_retries  # noqa: PLC0415

    log_retries()
    attributes = {"creditrisk.model.name": settings.model_name, "k8s.job.name": settings.job}
    try:
        with exported(settings.tracing_endpoint, settings.traceparent, attributes):
            result = run(settings, group)
    except MlflowException as error:
        raise TrackingError(f"MLflow failed ({error.error_code}): {error.message}") from error
    if settings.json_output:
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


def failed(error: TrainerError, *, as_json: bool) -> int:
    """Report an error and return its exit code."""
    from trainer.data.problems import InvalidDataError  # noqa: PLC0415 - imports pandas

    logger.error("%s", error)
    if as_json:
        report = json.loads(error.to_json()) if isinstance(error, InvalidDataError) else {}
        sys.stdout.write(json.dumps({"error": str(error), "exit_code": error.exit_code, **report}) + "\n")
    return error.exit_code
