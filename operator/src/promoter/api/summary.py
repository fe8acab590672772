"""A message in a few words, for a column of `kubectl get`."""

from __future__ import annotations

# `kubectl get mp` then fits in 120 columns with names of up to 17 characters.
SUMMARY_LENGTH = 50
# Shorter beginnings, as in "waiting for the canary: …", say less than the words after them.
_SHORTEST_BEFORE_COLON = 30


def summarize(message: str) -> str:
    """Return the beginning of a message for a column of `kubectl get`: its first clause or its first words."""
    message = " ".join(message.split())
    if len(message) <= SUMMARY_LENGTH:
        return message
    semicolon, colon = (message.rfind(mark, 0, SUMMARY_LENGTH + 2) for mark in ("; ", ": "))
    if semicolon > 0 or colon >= _SHORTEST_BEFORE_COLON:
        return message[: max(semicolon, colon if colon >= _SHORTEST_BEFORE_COLON else 0)]
    words = message[: SUMMARY_LENGTH - 1].rpartition(" ")[0] or message[: SUMMARY_LENGTH - 1]
    return f"{words}…"
