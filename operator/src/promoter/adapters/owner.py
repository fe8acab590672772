"""Ownership of what the operator creates."""

from __future__ import annotations

from typing import Any

from promoter.api.resource import API_VERSION, KIND, Owner


def owner_reference(owner: Owner) -> dict[str, Any]:
    """Return the owner reference, by which the cluster cleans up after a deleted ModelPromotion."""
    return {"apiVersion": API_VERSION, "kind": KIND, "name": owner.name, "uid": owner.uid,
            "controller": True, "blockOwnerDeletion": False}  # fmt: skip
