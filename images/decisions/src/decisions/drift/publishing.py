"""Where a report goes: into the database, from where the service shows it, and to MLflow."""

from __future__ import annotations

import logging

import psycopg

from decisions.drift.document import DriftReport
from decisions.drift.kept import keep
from decisions.drift.mlflow_run import MlflowError, log_report
from decisions.settings import DriftSettings

logger = logging.getLogger(__name__)


def publish(connection: psycopg.Connection, settings: DriftSettings, report: DriftReport) -> None:
    """Keep a report, and log it as a run of MLflow if that is configured; a run that fails is only a warning."""
    keep(connection, report)
    if settings.mlflow_url is None:
        return
    try:
        run = log_report(settings.mlflow_url, report)
    except MlflowError as error:
        logger.warning("the report is kept, but is no run in MLflow: %s", error)
        return
    logger.info("the report is run %s in MLflow", run)
