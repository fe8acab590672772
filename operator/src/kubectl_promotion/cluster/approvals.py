"""Give an approval: create a PromotionApproval, which the API server and the operator's webhook check."""

from __future__ import annotations

import re
from typing import Any

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import ModelPromotion
from kubectl_promotion.errors import NOT_FOUND, REFUSED, UNREACHABLE, CommandError
from promoter.api.approvals import APPROVAL_KIND, APPROVAL_PLURAL
from promoter.api.resource import API_VERSION
from promoter.api.timestamps import to_text

_DENIED = re.compile(r'admission webhook "[^"]*" denied the request: (?P<why>.*)', re.DOTALL)
_NOT_ASKED = "failed calling webhook"


def give_approval(kubectl: Kubectl, promotion: ModelPromotion, comment: str) -> str:
    """Approve the version that waits, and return the name by which the API server knows who did.

    Raises:
        CommandError: it was refused, or nobody could check it.
    """
    path = f"/apis/{API_VERSION}/namespaces/{promotion.namespace}/{APPROVAL_PLURAL}"
    try:
        created = kubectl.create(path, _document(promotion, comment))
    except CommandError as error:
        raise _explained(promotion, error) from error
    if user := (created.get("spec") or {}).get("user"):
        return str(user)
    raise CommandError(
        f"{promotion.name}: the approval does not count, because nobody checked it: no operator with approvals enabled "
        f"follows namespace {promotion.namespace}",
        REFUSED,
    )


def _document(promotion: ModelPromotion, comment: str) -> dict[str, Any]:
    state = promotion.state
    spec = {
        "promotion": promotion.name,
        "version": state.canary_version,
        "pausedAt": to_text(state.phase_started_at or 0.0),
        **({"comment": comment} if comment else {}),
    }
    metadata = {"generateName": f"{promotion.name[:50]}-", "namespace": promotion.namespace}
    return {"apiVersion": API_VERSION, "kind": APPROVAL_KIND, "metadata": metadata, "spec": spec}


def _explained(promotion: ModelPromotion, error: CommandError) -> CommandError:
    if found := _DENIED.search(str(error)):
        return CommandError(f"{promotion.name}: {found['why']}", REFUSED)
    if _NOT_ASKED in str(error):
        return CommandError(
            f"the operator, which checks who approves, does not answer; approve again once it runs: {error}",
            UNREACHABLE,
        )
    if error.exit_code == NOT_FOUND:
        return CommandError(
            "this cluster has no approvals: set approvals.enabled in the values of the operator's chart", NOT_FOUND
        )
    return error
