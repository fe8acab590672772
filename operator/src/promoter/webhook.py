"""Checks MLflow's webhooks: who sent it, and not long ago. They only hurry the next poll."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

WINDOW_SECONDS = 300.0


class RejectedError(Exception):
    """A webhook that is not to be believed; says why."""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str | None:
    """Return the registered model that a webhook speaks of, None where it names none.

    MLflow signs `delivery id.timestamp.body` with HMAC-SHA256, as `v1,<base64>`.

    Raises:
        RejectedError: signature, time or body is wrong.
    """
    signature = headers.get("X-MLflow-Signature", "")
    delivery, sent = headers.get("X-MLflow-Delivery-Id", ""), headers.get("X-MLflow-Timestamp", "")
    if not (sent.isascii() and sent.isdigit()) or not delivery.isascii() or not delivery:
        raise RejectedError("X-MLflow-Timestamp or X-MLflow-Delivery-Id is missing or malformed")
    signed = b".".join((delivery.encode(), sent.encode(), body))
    wanted = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(f"v1,{wanted}".encode(), signature.encode(errors="replace")):
        raise RejectedError("the signature is wrong")
    if abs(now - int(sent)) > WINDOW_SECONDS:
        raise RejectedError(f"it was sent more than {WINDOW_SECONDS:.0f} s ago or ahead")
    try:
        data = json.loads(body).get("data", {})
        return data.get("name") if isinstance(data.get("name"), str) else None
    except (ValueError, AttributeError) as error:
        raise RejectedError("the body is no JSON object") from error
