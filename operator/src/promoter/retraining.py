"""A training's Job in a turn: what became of it, and its start."""

from __future__ import annotations

import logging

from promoter.api.status import State
from promoter.decision.actions import StartTraining
from promoter.decision.observation import TrainingView
from promoter.errors import PermanentError, RetryableError
from promoter.promotion import Adapters, Promotion

log = logging.getLogger(__name__)


async def observe_training(adapters: Adapters, promotion: Promotion) -> TrainingView | None:
    """Return what became of the training that runs; None if the operator may not start any."""
    current = promotion.state.retraining.running if promotion.state.retraining else None
    if adapters.trainings is None:
        return None
    if current is None:
        return TrainingView()
    try:
        return await adapters.trainings.find(promotion.owner, current.job)
    except (RetryableError, PermanentError) as error:
        # Rollouts go on nevertheless.
        log.warning("%s: Job %s: %s", promotion.owner, current.job, error)
        return TrainingView()


async def start_training(adapters: Adapters, promotion: Promotion, action: StartTraining) -> State:
    """Create the Job, and return the state; if the API server refuses, the state says why.

    Raises:
        RetryableError: the API server did not answer.
    """
    state = promotion.state
    if adapters.trainings is None or state.retraining is None:
        return state
    try:
        await adapters.trainings.start(promotion.owner, action)
    except PermanentError as error:
        log.warning("%s: Job %s cannot be created: %s", promotion.owner, action.job, error)
        trainings = tuple(
            training.model_copy(update={"start_error": str(error)}) if training.job == action.job else training
            for training in state.retraining.trainings
        )
        return state.model_copy(update={"retraining": state.retraining.model_copy(update={"trainings": trainings})})
    log.info("%s: Job %s trains a new version: %s", promotion.owner, action.job, action.reason)
    return state
