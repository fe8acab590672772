"""The report of an experiment: what both arms did, and what differs between the versions."""

from __future__ import annotations

from pydantic import Field

from promoter.api.resource import Base
from promoter.api.timestamps import OptionalTimestamp

# That all bounds of one quantity hold, whenever one looks.
CONFIDENCE = 0.95


class Arm(Base):
    """What one arm did with its own applicants."""

    answers: int = Field(description="Requests with a good answer.")
    decline_rate: float | None = Field(default=None, description="Share of declined applications.")
    p99_milliseconds: float | None = Field(default=None, description="99th percentile of the latency.")


class Measurement(Base):
    """One quantity with its bounds."""

    name: str
    value: float
    lower: float
    upper: float
    samples: int = Field(description="Number of pairs or of the challenger's answers behind the value.")
    paired: bool = Field(default=False, description="Whether both models scored the same applicants.")

    def __str__(self) -> str:
        """Return the measurement in words."""
        over = f"over {self.samples} {'pairs' if self.paired else 'answers'}"
        return f"{self.name} {self.value:.4f} ({self.lower:.4f} to {self.upper:.4f}) {over}"


class ExperimentReport(Base):
    """How an experiment came out; bounds have a confidence of 95 %, those of segments all together."""

    champion_version: str = Field(description="Version that was stable.")
    weight: int = Field(description="Percentage of applicants the challenger answered.")
    started_at: OptionalTimestamp = Field(default=None, description="When every stable pod applied the weight.")
    champion: Arm
    challenger: Arm
    measured: tuple[Measurement, ...] = Field(default=(), description=(
        "Of the challenger, or the challenger's less the champion's."))  # fmt: skip
    segments: tuple[Measurement, ...] = Field(default=(), description=(
        "Rise of the decline rate by segment, the largest first."))  # fmt: skip
    segments_left_out: int = Field(default=0, description="Number of segments that changed less than these.")
