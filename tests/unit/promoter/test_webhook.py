"""A webhook is trusted only if MLflow signed it, and recently."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from promoter.webhook import WINDOW_SECONDS, RejectedError, verify

SECRET, NOW = "a-long-secret", 1_700_000_000
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "credit-risk"}}).encode()


def signed(body: bytes = BODY, *, delivery: str = "d-1", sent: int = NOW, secret: str = SECRET) -> dict[str, str]:
    """Return the headers as MLflow itself makes them."""
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": str(sent),
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, str(sent), body.decode()),
    }


def test_a_webhook_signed_by_mlflow_is_trusted_and_names_the_model() -> None:
    assert verify(signed(), BODY, SECRET, NOW + 5) == "credit-risk"


@pytest.mark.parametrize(
    ("headers", "body", "now", "reason"),
    [
        (signed(), BODY + b" ", NOW, "signature is wrong"),
        (signed(secret="another"), BODY, NOW, "signature is wrong"),
        (signed() | {"X-MLflow-Timestamp": str(NOW + 1)}, BODY, NOW, "signature is wrong"),
        (signed() | {"X-MLflow-Delivery-Id": "d-2"}, BODY, NOW, "signature is wrong"),
        (signed() | {"X-MLflow-Signature": "v1,\udce9"}, BODY, NOW, "signature is wrong"),
        (signed(), BODY, NOW + WINDOW_SECONDS + 1, "more than 300 s from now"),
        (signed(), BODY, NOW - WINDOW_SECONDS - 1, "more than 300 s from now"),
        (signed() | {"X-MLflow-Timestamp": "²"}, BODY, NOW, "malformed"),
        ({}, BODY, NOW, "missing"),
        (signed(b"[1]"), b"[1]", NOW, "not a JSON object"),
        (signed(b"{"), b"{", NOW, "not a JSON object"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_a_reason(headers: dict[str, str], body: bytes, now: float, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        verify(headers, body, SECRET, now)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(RejectedError):
        verify(signed(), BODY, SECRET, NOW)
    assert len(compared) == 1
