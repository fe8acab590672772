"""What the router needs of paired scoring."""

from __future__ import annotations

from typing import Protocol

from scorer.answers import Score


class Pairs(Protocol):
    """Takes applications that the canary scored, to compare both models later; taking one never waits."""

    @property
    def champion_version(self) -> str | None:
        """The version of this pod's model, None if there is none yet."""

    def add(self, version: str, body: bytes, canary: Score) -> None:
        """Take an application that the canary of a version answered."""

    def add_answered(self, version: str, body: bytes, canary: Score, champion: Score) -> None:
        """Take an application that both models scored."""
