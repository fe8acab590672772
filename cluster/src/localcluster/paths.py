"""Folders outside of the repository: a cache that survives `make down`, and state that does not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Paths:
    """Folders of the local clusters."""

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls) -> Paths:
        """Use XDG_CACHE_HOME for the cache and CREDIT_RISK_STATE for the state if they are set."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credit-risk"
        state = Path(os.environ.get("CREDIT_RISK_STATE") or "/var/lib/credit-risk")
        return cls(cache=cache, state=state)

    @property
    def downloads(self) -> Path:
        """Downloaded packages, each verified by hash."""
        return self.cache / "downloads"

    @property
    def tools(self) -> Path:
        """The pinned helm and kubectl, also for the user's PATH."""
        return self.cache / "tools" / "bin"

    @property
    def images(self) -> Path:
        """Image archives, named by the hash of their inputs."""
        return self.cache / "images"

    @property
    def logs(self) -> Path:
        """Logs of every step and of every component of the cluster."""
        return self.state / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"
