"""Pairs that nobody compares, for routers whose pairs do not matter."""

from __future__ import annotations

from scorer.answers import Score


class Unpaired:
    """Takes pairs and forgets them."""

    champion_version: str | None = None

    def add(self, version: str, body: bytes, canary: Score) -> None:
        """Forget it."""

    def add_answered(self, version: str, body: bytes, canary: Score, champion: Score) -> None:
        """Forget it."""
