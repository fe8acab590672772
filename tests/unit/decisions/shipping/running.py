"""A shipper that a test turns by hand."""

from __future__ import annotations

from pathlib import Path

from decisions.shipping.database import Database
from decisions.shipping.handover import Handover
from decisions.shipping.metrics import Health, ShipperMetrics
from decisions.shipping.shipper import Shipper


class Running:
    """The shipper with its metrics and probes."""

    def __init__(self, logs: Path, url: str, pod: str = "scoring-a", handover: Handover | None = None) -> None:
        self.metrics, self.health = ShipperMetrics(), Health()
        self.database = Database(lambda: url)
        self.shipper = Shipper(logs, pod, self.database, self.metrics, self.health, handover)

    def turn(self) -> None:
        while self.shipper.turn():
            pass

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"decisions_shipper_{name}", labels)

    def stop(self) -> None:
        for own in self.shipper._own.values():
            own.claim.release()
        self.shipper._own.clear()
        self.database.close()
