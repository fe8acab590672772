"""The newest drift reports as metrics: the job that makes them has ended when Prometheus asks."""

from __future__ import annotations

import logging
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge

from decisions.drift.document import DriftReport
from decisions.drift.kept import newest, times_of_newest
from decisions.drift.ranking import Performance
from decisions.service.database import Database
from decisions.service.problems import Problem

log = logging.getLogger(__name__)


class DriftMetrics:
    """Gauges of the newest report of each model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Begin without a report."""

        def gauge(name: str, help_: str, *labels: str) -> Gauge:
            return Gauge(f"decisions_{name}", help_, ["model", *labels], registry=registry)

        self._drifted = gauge("drift_drifted", "1 if something surely drifted in the newest report, else 0", "version")
        self._psi = gauge("drift_psi", "PSI of a feature, of the score or of the first-named reasons", "characteristic")
        self._lower = gauge("drift_psi_lower_bound", "What that PSI is at least", "characteristic")
        self._limit = gauge("drift_psi_limit", "The PSI from which something has drifted")
        self._made = gauge("drift_report_timestamp_seconds", "When the newest report was made, in seconds since 1970")
        self._until = gauge("drift_until_timestamp_seconds", "The end of the days that it is about")
        labels = ("version", "kind")
        self._auc = gauge("performance_auc", "AUC of approved loans, expected or realized", *labels)
        self._rate = gauge("performance_default_rate", "Their default rate, expected or realized", *labels)
        self._gauges = (
            self._drifted,
            self._psi,
            self._lower,
            self._limit,
            self._made,
            self._until,
            self._auc,
            self._rate,
        )
        self._known: dict[str, datetime] = {}

    async def refresh(self, database: Database) -> None:
        """Read reports that are new; if the database does not answer, the metrics stay as they were."""
        try:
            async with database.connection() as connection:
                times = await times_of_newest(connection)
                if times == self._known:
                    return
                reports = [await newest(connection, model) for model in times]
        except Problem as problem:
            log.warning("drift metrics are not refreshed: %s", problem)
            return
        for gauge in self._gauges:
            gauge.clear()
        for report in reports:
            if report:
                self._show(report)
        self._known = times

    def _show(self, report: DriftReport) -> None:
        model = report.model
        self._drifted.labels(model, report.version).set(report.verdict == "drifted")
        self._limit.labels(model).set(report.limits.psi)
        self._made.labels(model).set(report.created_at.timestamp())
        self._until.labels(model).set(report.until.timestamp())
        for of in filter(None, (report.score, *report.features, report.reasons)):
            self._psi.labels(model, of.name).set(of.distance.psi.value)
            self._lower.labels(model, of.name).set(of.distance.psi.lower)
        for version in report.performance:
            self._show_performance(model, version.version, "expected", version.expected)
            self._show_performance(model, version.version, "realized", version.realized)

    def _show_performance(self, model: str, version: str, kind: str, found: Performance | None) -> None:
        if found:
            self._rate.labels(model, version, kind).set(found.default_rate.value)
            if found.auc:
                self._auc.labels(model, version, kind).set(found.auc.value)
