"""What the status keeps of drift."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from promoter.api.resource import Base
from promoter.api.timestamps import OptionalTimestamp, Timestamp


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
