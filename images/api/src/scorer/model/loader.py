"""Loads the model at start; until it is loaded, the slot says why not."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from pathlib import Path

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential, wait_random

from scorer.model.artifact_copy import restore_copy
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.model.readiness import (
    ArtifactRejectedError,
    LoadingError,
    RegistryUnavailableError,
    VersionNotFoundError,
)
from scorer.model.registry import Registry
from scorer.model.version_cache import VersionCache
from scorer.settings import Settings

log = logging.getLogger(__name__)


async def keep_loading(slot: ModelSlot, registry: Registry, settings: Settings) -> None:
    """Fill the slot, retrying with exponential backoff until the registry has a version that can be served."""

    def report(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        if isinstance(error, LoadingError):
            slot.code, slot.reason = error.code, str(error)
            log.warning("no model yet (%s): %s", slot.code, slot.reason)

    # The random part keeps pods that start together from retrying together.
    pauses = wait_exponential(settings.retry_min_seconds, settings.retry_max_seconds)
    jitter = wait_random(0, settings.retry_min_seconds)
    attempts = AsyncRetrying(retry=retry_if_exception_type(LoadingError), wait=pauses + jitter, before_sleep=report)
    model: Model = await attempts(_load, registry, settings)
    slot.model = model
    # All objects so far stay: the garbage collector need not traverse them again and again.
    gc.collect()
    gc.freeze()
    identity = model.identity
    log.info("serving %s", json.dumps({"model": identity.name, "version": identity.version, "run": identity.run_id}))


async def _load(registry: Registry, settings: Settings) -> Model:
    """Load from the copy in the cluster, else from the registry, else from what this pod verified before."""
    cache, refusal = VersionCache(settings.cache_dir), None
    try:
        found = restore_copy(settings.artifacts_dir, cache, settings.model_name, settings.model_version)
    except ArtifactRejectedError as error:
        log.error("not served: %s; trying the registry", error)  # noqa: TRY400 - the message says it all
        found, refusal = None, error
    identity, folder = found or await _fetch(registry, settings, cache, refusal)
    return await asyncio.to_thread(load_model, folder, identity)


async def _fetch(
    registry: Registry, settings: Settings, cache: VersionCache, refusal: ArtifactRejectedError | None
) -> tuple[Identity, Path]:
    try:
        version = await registry.find(
            settings.model_name,
            version=settings.model_version,
            alias=settings.model_alias,
            stage=settings.model_stage,
        )
        return version.identity, await registry.fetch(version, cache)
    except (RegistryUnavailableError, VersionNotFoundError) as error:
        # A pointer that names nothing is an answer; a deleted version that this pod is told to serve is not.
        may_serve = isinstance(error, RegistryUnavailableError) or settings.model_version
        if may_serve and (known := cache.last_verified(settings.model_name, settings.model_version)):
            log.warning("serving version %s, which this pod verified before: %s", known[0].version, error)
            return known
        raise refusal or error from error
