"""PromotionApprovals in the cluster, and the ModelPromotions that they are about."""

from __future__ import annotations

import contextlib
from typing import Any

from pydantic import ValidationError

from promoter.adapters.rest import KubeClient
from promoter.api.approvals import APPROVAL_OF_LABEL, APPROVAL_PLURAL, APPROVED_VERSION_LABEL, ApprovalSpec
from promoter.api.resource import GROUP, PLURAL, VERSION, Owner
from promoter.api.timestamps import to_seconds
from promoter.errors import PermanentError

Document = dict[str, Any]


class ApprovalObjects:
    """What the operator reads for approvals; it writes nothing."""

    def __init__(self, kube: KubeClient) -> None:
        """Take a client."""
        self._kube = kube

    async def approvals(self, owner: Owner, version: str) -> tuple[tuple[float, ApprovalSpec], ...]:
        """Return the approvals of a version with the times at which they were created, in seconds since 1970.

        Raises:
            RetryableError: the API server did not answer.
            PermanentError: it has no PromotionApprovals, or the operator has no permission to list them.
        """
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{owner.namespace}/{APPROVAL_PLURAL}"
        selector = f"{APPROVAL_OF_LABEL}={owner.uid},{APPROVED_VERSION_LABEL}={version}"
        listing = await self._kube.get(path, labelSelector=selector)
        if listing is None:
            raise PermanentError("the cluster has no PromotionApprovals: install their CustomResourceDefinition")
        found = []
        for item in listing.get("items") or ():
            # One that was created while the definition allowed more is not one of this operator's.
            with contextlib.suppress(ValidationError):
                created_at = float(to_seconds(item["metadata"]["creationTimestamp"]))
                found.append((created_at, ApprovalSpec.model_validate(item.get("spec"))))
        return tuple(found)

    async def promotion(self, namespace: str, name: str) -> Document | None:
        """Return a ModelPromotion, None if there is none.

        Raises:
            RetryableError: the API server did not answer.
            PermanentError: it refused.
        """
        return await self._kube.get(f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{name}")
