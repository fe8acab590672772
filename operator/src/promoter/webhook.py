"""Verifies MLflow's webhooks: sent by MLflow, and recently. A webhook only triggers the next poll early."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

WINDOW_SECONDS = 300.0


class RejectedError(Exception):
    """A webhook that cannot be trusted; the message says why."""


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str | None:
    """Return the registered model that a webhook is about, None if it names none.

    MLflow signs `delivery id.timestamp.body` with HMAC-SHA256, as `v1,<base64>`.

    Raises:
        RejectedError: signature, time or body is invalid.
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
        raise RejectedError(f"its timestamp is more than {WINDOW_SECONDS:.0f} s from now")
    try:
        data = json.loads(body).get("data", {})
        return data.get("name") if isinstance(data.get("name"), str) else None
    except (ValueError, AttributeError) as error:
        raise RejectedError("the body is not a JSON object") from error
