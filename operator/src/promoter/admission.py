"""The admission webhook for PromotionApprovals: who approves is what the API server says, not what the client writes.

The API server calls it before it stores a PromotionApproval. The person is `userInfo` of its request; the webhook
refuses those who may not approve now, and fills name and groups in. Afterwards the content cannot be changed.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from pydantic import Field, ValidationError

from promoter.api.approvals import APPROVAL_OF_LABEL, APPROVED_VERSION_LABEL, ApprovalSpec
from promoter.api.resource import API_VERSION, KIND, Base
from promoter.api.rules import InvalidSpecError, parse_spec
from promoter.api.spec import Spec
from promoter.api.status import State
from promoter.decision.approvals import Person, asked_now, groups_of, refusal
from promoter.errors import PermanentError, RetryableError

log = logging.getLogger(__name__)
Document = dict[str, Any]
PATH = "/approvals"
# An AdmissionReview holds the object, and on an update the old one, too.
_BODY_LIMIT = 1 << 20
_FORBIDDEN, _INVALID, _UNAVAILABLE = (403, "Forbidden"), (400, "BadRequest"), (503, "ServiceUnavailable")


class PromotionReader(Protocol):
    """What the webhook needs to know of the cluster. May raise RetryableError or PermanentError."""

    async def promotion(self, namespace: str, name: str) -> Document | None:
        """Return a ModelPromotion, None if there is none."""


class UserInfo(Base):
    """The person behind a request, as the API server has authenticated them."""

    username: str = ""
    groups: tuple[str, ...] = ()


class Request(Base):
    """The request of an AdmissionReview (admission.k8s.io/v1)."""

    uid: str
    operation: str
    namespace: str = ""
    user_info: UserInfo = Field(default=UserInfo())
    object: Document = Field(default_factory=dict)
    old_object: Document | None = None


class RefusedError(Exception):
    """A PromotionApproval is refused; the message says why, and the code and the reason are those of the API."""

    def __init__(self, message: str, kind: tuple[int, str] = _FORBIDDEN) -> None:
        """Take the message, and code and reason."""
        super().__init__(message)
        self.code, self.reason = kind


def create_admission_app(promotions: PromotionReader, follows: Callable[[str], bool]) -> web.Application:
    """Return the application.

    Args:
        promotions: Reads ModelPromotions.
        follows: Whether the operator follows a namespace; it leaves others, where it has no rights, to other operators.
    """

    async def review(http: web.Request) -> web.Response:
        try:
            document = await http.json()
            request = Request.model_validate(document.get("request") if isinstance(document, dict) else None)
        except (ValueError, ValidationError) as error:
            return web.json_response({"detail": f"not an AdmissionReview: {error}"}, status=400)
        response: Document = {"uid": request.uid, "allowed": True}
        try:
            patch = await admit(promotions, request) if follows(request.namespace) else []
            if patch:
                response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        except RefusedError as error:
            log.info("%s: an approval by %s is refused: %s", request.namespace, request.user_info.username, error)
            response |= {
                "allowed": False,
                "status": {"code": error.code, "reason": error.reason, "message": str(error)},
            }
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    app = web.Application(client_max_size=_BODY_LIMIT)
    app.router.add_post(PATH, review)
    return app


async def admit(promotions: PromotionReader, request: Request) -> list[Document]:
    """Return what is filled in (a JSON patch) of a PromotionApproval that may be stored.

    Raises:
        RefusedError: it may not.
    """
    if request.operation == "UPDATE":
        _check_unchanged(request)
        return []
    try:
        wanted = ApprovalSpec.model_validate(request.object.get("spec"))
    except ValidationError as error:
        faults = (f"spec.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise RefusedError("; ".join(faults), _INVALID) from error
    person = Person(request.user_info.username, request.user_info.groups)
    if wanted.user not in {"", person.user}:
        raise RefusedError(f"spec.user is {wanted.user}, but the API server knows you as {person.user}; leave it out")
    promotion = await _promotion(promotions, request.namespace, wanted.promotion)
    spec, state = _read(promotion)
    if why := refusal(spec, state, wanted, person):
        raise RefusedError(why)
    asked = asked_now(spec, state)
    return _filled_in(request.object, promotion, wanted, person.user, groups_of(asked, person) if asked else ())


def _check_unchanged(request: Request) -> None:
    """Let labels and finalizers change, which garbage collection needs, but not what was approved and by whom."""
    old = request.old_object or {}
    if request.object.get("spec") != old.get("spec") or _own_labels(request.object) != _own_labels(old):
        raise RefusedError("an approval cannot be changed; abort the rollout to void it")


def _own_labels(document: Document) -> tuple[object, ...]:
    labels = (document.get("metadata") or {}).get("labels") or {}
    return labels.get(APPROVAL_OF_LABEL), labels.get(APPROVED_VERSION_LABEL)


async def _promotion(promotions: PromotionReader, namespace: str, name: str) -> Document:
    try:
        found = await promotions.promotion(namespace, name)
    except (RetryableError, PermanentError) as error:
        raise RefusedError(f"ModelPromotion {name} could not be read, try again: {error}", _UNAVAILABLE) from error
    if found is None:
        raise RefusedError(f"there is no ModelPromotion {name} in namespace {namespace}", _INVALID)
    return found


def _read(promotion: Document) -> tuple[Spec, State]:
    try:
        return parse_spec(promotion.get("spec")), State.model_validate(promotion.get("status") or {})
    except (InvalidSpecError, ValidationError) as error:
        raise RefusedError(f"nothing waits for approvals: {error}") from error


def _filled_in(
    document: Document, promotion: Document, wanted: ApprovalSpec, user: str, groups: tuple[str, ...]
) -> list[Document]:
    """Return the JSON patch: who approves, what the operator lists approvals by, and the owner that they go with."""
    metadata, owner = document.get("metadata") or {}, promotion["metadata"]
    labels = {**(metadata.get("labels") or {}), APPROVAL_OF_LABEL: owner["uid"], APPROVED_VERSION_LABEL: wanted.version}
    reference = {"apiVersion": API_VERSION, "kind": KIND, "name": owner["name"], "uid": owner["uid"]}
    return [
        {"op": "add", "path": "/spec/user", "value": user},
        {"op": "add", "path": "/spec/groups", "value": list(groups)},
        {"op": "add", "path": "/metadata/labels", "value": labels},
        {"op": "add", "path": "/metadata/ownerReferences", "value": [reference]},
    ]
