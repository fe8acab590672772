"""Gets the model at start, saying all the while what it waits for, and never lets a loaded one go."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
from dataclasses import dataclass

from scorer.model.bundle import Model, ModelError, load_model
from scorer.model.registry import ArtifactRejectedError, Registry, RegistryUnavailableError, VersionAbsentError
from scorer.settings import Settings

log = logging.getLogger(__name__)


@dataclass
class ModelSlot:
    """Holds the model, or the reason why there is none yet."""

    model: Model | None = None
    reason: str = "the model has not been asked for yet"
    draining: bool = False

    @property
    def not_ready(self) -> str | None:
        """Return why requests should go elsewhere, None when they should come."""
        if self.draining:
            return "the pod is shutting down"
        return None if self.model else self.reason


async def keep_loading(slot: ModelSlot, registry: Registry, settings: Settings) -> None:
    """Fill the slot, trying again with growing pauses until the registry has a version that can be served."""
    pause = settings.retry_min_seconds
    while slot.model is None:
        try:
            slot.model = await _load(registry, settings)
        except (RegistryUnavailableError, VersionAbsentError, ArtifactRejectedError, ModelError) as error:
            slot.reason = f"{type(error).__name__.removesuffix('Error')}: {error}"
            log.warning("no model yet: %s", slot.reason)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads pods, keeps no secret
            pause = min(pause * 2, settings.retry_max_seconds)
    # All that is there now stays: the garbage collector need not look at it, request after request.
    gc.collect()
    gc.freeze()
    identity = slot.model.identity
    log.info("serving %s", json.dumps({"model": identity.name, "version": identity.version, "run": identity.run_id}))


async def _load(registry: Registry, settings: Settings) -> Model:
    version = await registry.find(
        settings.model_name,
        version=settings.model_version,
        alias=settings.model_alias,
        stage=settings.model_stage,
    )
    folder = await registry.fetch(version, settings.cache_dir)
    return await asyncio.to_thread(load_model, folder, version.identity)
