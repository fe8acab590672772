"""Approvals: what a pause asks for, what a person gives, and what the status keeps of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from promoter.api.resource import Base
from promoter.api.timestamps import Timestamp

APPROVAL_KIND, APPROVAL_PLURAL = "PromotionApproval", "promotionapprovals"
# On a PromotionApproval: the uid of its ModelPromotion. With the version, what the operator lists them by.
APPROVAL_OF_LABEL, APPROVED_VERSION_LABEL = "creditrisk.io/approval-of", "creditrisk.io/model-version"
COMMENT_LENGTH = 1000
# As long as the API server's users and groups usually are; longer ones cannot approve.
Identity = Annotated[str, Field(min_length=1, max_length=250)]


class Approvals(Base):
    """What a pause waits for: different people of certain groups."""

    needed: int = Field(default=1, ge=1, le=10, description=(
        "How many different people have to approve. Whoever trained the version is not enough alone."))  # fmt: skip
    groups: tuple[Identity, ...] = Field(min_length=1, max_length=20, description=(
        "Groups, as the API server knows them, whose members may approve."))  # fmt: skip


class ApprovalSpec(Base):
    """A PromotionApproval: one person's consent to go on with a version from the pause at which it is now."""

    # It becomes part of a path of the API.
    promotion: str = Field(
        max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", description="Name of the ModelPromotion."
    )
    version: str = Field(pattern=r"^[1-9][0-9]{0,8}$", description="The version that is approved.")
    paused_at: Timestamp = Field(description=(
        "When the pause began: `status.phaseStartedAt` of the ModelPromotion. An approval counts for no other pause."
    ))  # fmt: skip
    comment: str = Field(default="", max_length=COMMENT_LENGTH, description="Why, for the record.")
    user: str = Field(default="", max_length=250, description=(
        "Who approves. Filled in from what the API server knows of whoever creates this; another name is refused."
    ))  # fmt: skip
    groups: tuple[Identity, ...] = Field(default=(), max_length=20, description=(
        "The groups by which they may approve. Filled in as well."))  # fmt: skip


class Approval(Base):
    """An approval that was counted."""

    user: str = Field(description="Who approved, as the API server knows them.")
    groups: tuple[str, ...] = Field(description="The groups by which they may.")
    comment: str = ""
    at: Timestamp = Field(description="When they approved.")
    step: int = Field(description="Index of the pause, from 0.")


class ApprovalsState(Base):
    """The approvals of one rollout."""

    asked: tuple[Approvals, ...] = Field(description="What the pauses asked for when the rollout began.")
    given: tuple[Approval, ...] = Field(default=(), description="Approvals, in the order in which they were counted.")
    trained_by: tuple[str, ...] | None = Field(default=None, description=(
        "Who trained the version, as the registry has recorded it; unset until it was asked."))  # fmt: skip
