"""Print the definition of PromotionApprovals, rendered from the model: `python -m promoter.api.approval_crd`."""

from __future__ import annotations

from promoter.api.approvals import APPROVAL_KIND, APPROVAL_PLURAL, ApprovalSpec
from promoter.api.crd import Column, Schema, definition, structural, to_yaml

COLUMNS: tuple[Column, ...] = (
    ("Promotion", "string", ".spec.promotion", 0),
    ("Version", "string", ".spec.version", 0),
    ("User", "string", ".spec.user", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Comment", "string", ".spec.comment", 0),
)


def approval_crd() -> Schema:
    """Return the whole definition."""
    return definition(
        APPROVAL_KIND, APPROVAL_PLURAL, COLUMNS,
        "One person's consent to go on with a rollout from the pause at which it is.",
        {"spec": structural(ApprovalSpec.model_json_schema(by_alias=True))},
    )  # fmt: skip


def render() -> str:
    """Return the definition as YAML."""
    return to_yaml(approval_crd(), "promoter.api.approval_crd")


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201 - what this program is for
