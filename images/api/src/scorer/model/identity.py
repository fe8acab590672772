"""Which model version this is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """A model version as the registry knows it.

    Attributes:
        name: The registered model's name.
        version: The version's number.
        run_id: The training run that made it.
        digests: SHA-256 in hex by file name.
        metrics: Test metrics by name.
    """

    name: str
    version: str
    run_id: str
    digests: dict[str, str]
    metrics: dict[str, float]
