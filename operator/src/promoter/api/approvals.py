"""The spec of a PromotionApproval, with which a person approves what a pause asks for."""

from __future__ import annotations

from pydantic import Field

from promoter.api.resource import Base, Identity
from promoter.api.timestamps import Timestamp

APPROVAL_KIND, APPROVAL_PLURAL = "PromotionApproval", "promotionapprovals"
# On a PromotionApproval: the uid of its ModelPromotion. With the version, what the operator lists them by.
APPROVAL_OF_LABEL, APPROVED_VERSION_LABEL = "creditrisk.io/approval-of", "creditrisk.io/model-version"
COMMENT_LENGTH = 1000


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
