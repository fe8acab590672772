"""Which copies of versions' files there are: those of the status whose ConfigMaps exist."""

from __future__ import annotations

from promoter.api.status import ArtifactCopy, State
from promoter.decision.observation import Observation


def copy_of(state: State, observed: Observation, version: str | None) -> ArtifactCopy | None:
    """Return the copy of a version's files, None if there is none or a part of it was deleted."""
    found = recorded_copy(state, version)
    return found if found and observed.artifacts.issuperset(found.config_maps) else None


def recorded_copy(state: State, version: str | None) -> ArtifactCopy | None:
    """Return the copy that was made of a version's files, even if a part of it was deleted."""
    return next((copy for copy in state.artifacts if copy.version == version), None)
