"""Where things are kept: the cache survives `make down`, the state does not, and neither is in the repository."""

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
        """Take XDG_CACHE_HOME for the cache and CREDIT_RISK_STATE for the state where they are set."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "credit-risk"
        state = Path(os.environ.get("CREDIT_RISK_STATE") or "/var/lib/credit-risk")
        return cls(cache=cache, state=state)

    @property
    def downloads(self) -> Path:
        """Packages as they came, each checked by hash."""
        return self.cache / "downloads"

    @property
    def tools(self) -> Path:
        """Programs that people use too: helm and kubectl."""
        return self.cache / "tools" / "bin"

    @property
    def images(self) -> Path:
        """Image archives, named by the hash of what went into them."""
        return self.cache / "images"

    @property
    def logs(self) -> Path:
        """Output of every step and of every part of the cluster."""
        return self.state / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in."""
        return self.state / "kubeconfig"
