"""The pods' counters as text in the status: hundreds of each of up to a hundred pods."""

from __future__ import annotations

import base64
import json
import zlib


def packed(pods: dict[str, dict[str, float]]) -> str:
    """Return readings as a table, in which the long names of the counters occur once."""
    names = list(dict.fromkeys(name for counters in pods.values() for name in counters))
    table = {"names": names, "pods": {pod: [counters.get(name) for name in names] for pod, counters in pods.items()}}
    return base64.b64encode(zlib.compress(json.dumps(table, separators=(",", ":")).encode())).decode()


def unpacked(readings: str) -> dict[str, dict[str, float]]:
    """Return the counters of each pod from a table that `packed` made."""
    table = json.loads(zlib.decompress(base64.b64decode(readings)))
    return {
        pod: {name: value for name, value in zip(table["names"], values, strict=True) if value is not None}
        for pod, values in table["pods"].items()
    }
