"""What the status keeps of drift and of the trainings that followed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from promoter.api.resource import Base
from promoter.api.timestamps import OptionalTimestamp, Timestamp

Trigger = Literal["Drift", "Interval"]
# Refused: by a gate.
TrainingOutcome = Literal["Succeeded", "Refused", "Failed"]


class DriftState(Base):
    """The newest drift report of the model, in short."""

    version: str = Field(description="The version that it is about.")
    until: Timestamp = Field(description="The end of the days that it judges.")
    created_at: Timestamp
    verdict: Literal["steady", "unclear", "drifted"]
    headline: str = Field(description="What it says, in one sentence.")
    drifted_since: OptionalTimestamp = Field(default=None, description=(
        "The end of the days of the first report without a break that found drift; unset if this one did not."
    ))  # fmt: skip


class Training(Base):
    """A training that the operator started."""

    job: str = Field(description="Name of the Job.")
    trigger: Trigger
    reason: str = Field(description="Why it was started, for people; also on the run and the version.")
    started_at: Timestamp
    seen: bool = Field(default=False, description="Whether the Job was seen in the cluster.")
    start_error: str = Field(default="", description="Why the Job could not be created.")
    outcome: TrainingOutcome | None = Field(default=None, description="How it ended; unset while it runs.")
    ended_at: OptionalTimestamp = Field(default=None, description="When that was seen.")
    message: str = ""


class RetrainingState(Base):
    """The trainings that the operator started, and what it waits for."""

    since: Timestamp = Field(description="When the operator first saw `spec.retraining`.")
    trainings: tuple[Training, ...] = Field(default=(), description="The last twenty, newest first.")
    reason: str = Field(default="", description="Reason of the condition Retraining; empty without `spec.retraining`.")
    message: str = ""

    @property
    def running(self) -> Training | None:
        """Return the training that has not ended."""
        return next((training for training in self.trainings if training.outcome is None), None)
