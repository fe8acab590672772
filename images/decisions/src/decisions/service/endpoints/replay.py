"""POST /v1/decisions/{id}/replay: whether the version that made a decision still makes the same one of its inputs."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request

from decisions.replay.errors import ForgottenError, LaterError, MismatchError, UnavailableError
from decisions.replay.result import Replay
from decisions.replay.stored import read_stored
from decisions.service.access import ReplayClient
from decisions.service.endpoints.common import problems, service_of
from decisions.service.endpoints.decisions import absent
from decisions.service.problems import Problem

router = APIRouter(prefix="/v1/decisions", tags=["decisions"])
_RETRY_AFTER = {"Retry-After": "10"}


@router.post("/{decision_id}/replay", responses=problems(404, 409, 424, 502), operation_id="replayDecision")
async def replay(request: Request, _: ReplayClient, decision_id: UUID) -> Replay:
    """Score a decision's stored inputs again with the version that made it, and compare, the probability bit by bit.

    The version's files come from the archive, else from the registry, and must have the digests that were recorded.
    """
    service = service_of(request)
    async with service.database.connection() as connection:
        stored = await read_stored(connection, decision_id)
    if stored is None:
        raise absent(decision_id)
    try:
        found = await service.replays.replay(decision_id, stored)
    except ForgottenError as error:
        raise Problem(409, str(error)) from error
    except UnavailableError as error:
        raise Problem(424, str(error)) from error
    except MismatchError as error:
        raise Problem(502, str(error)) from error
    except LaterError as error:
        raise Problem(503, str(error), headers=_RETRY_AFTER) from error
    service.metrics.replays.labels("same" if found.same else "different").inc()
    return found
