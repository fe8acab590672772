"""Print the definition of PromotionApprovals, rendered from the model: `python -m promoter.api.approval_crd`."""

from __future__ import annotations

import yaml

from promoter.api.approvals import APPROVAL_KIND, APPROVAL_PLURAL, ApprovalSpec
from promoter.api.crd import Schema, structural
from promoter.api.resource import GROUP, VERSION

COLUMNS = (
    ("Promotion", "string", ".spec.promotion"),
    ("Version", "string", ".spec.version"),
    ("User", "string", ".spec.user"),
    ("Age", "date", ".metadata.creationTimestamp"),
    ("Comment", "string", ".spec.comment"),
)


def approval_crd() -> Schema:
    """Return the whole definition."""
    spec = structural(ApprovalSpec.model_json_schema(by_alias=True))
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{APPROVAL_PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": APPROVAL_KIND, "listKind": f"{APPROVAL_KIND}List", "plural": APPROVAL_PLURAL,
                "singular": APPROVAL_KIND.lower(),
            },
            "versions": [{
                "name": VERSION,
                "served": True,
                "storage": True,
                "additionalPrinterColumns": [
                    {"name": name, "type": kind, "jsonPath": path} for name, kind, path in COLUMNS
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": "One person's consent to go on with a rollout from the pause at which it is.",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": spec,
                    },
                }},
            }],
        },
    }  # fmt: skip


def render() -> str:
    """Return the definition as YAML."""
    head = "# Rendered by `python -m promoter.api.approval_crd`.\n"
    return head + str(yaml.safe_dump(approval_crd(), sort_keys=False, width=110))


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201 - what this program is for
