"""The checks: from a request and the database to an answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from decisions.checks import ranking
from decisions.checks.bounds import around
from decisions.checks.calibration import NAME, UNIT, calibration
from decisions.checks.counts import (
    Arm,
    newest_decision,
    read_grades,
    read_reasons,
    read_scores,
    read_version,
)
from decisions.checks.model import CheckAnswer, CheckRequest, Estimate
from decisions.checks.ranking import Scores
from decisions.checks.reasons import drift

# The scale where no limit gives one.
_SCALE = 0.01
# Of each version, so many loans must have defaulted, and as many have been repaid, before outcomes say more than PDs.
_OUTCOMES_OF_A_KIND = 30


async def check(connection: AsyncConnection[Any], request: CheckRequest, now: datetime) -> CheckAnswer:
    """Answer a check that is not SQL.

    Raises:
        psycopg.Error: The database does not answer, or not in time.
    """
    if request.type == "GradeCalibration":
        return await _calibration(connection, request, now)
    stable, canary = await _arms(connection, request)
    if request.type == "EstimatedAUC":
        mature = now - timedelta(days=request.matured_days)
        answer = _ranking(request, *[await read_scores(connection, arm, mature) for arm in (stable, canary)])
    else:
        answer = _reasons(request, *[await read_reasons(connection, arm) for arm in (stable, canary)])
    newest = await newest_decision(connection, canary)
    if newest is None:
        return answer.model_copy(update={"message": f"the log has no decision of version {request.canary} yet"})
    age = f"the canary's newest decision in the log is {max(0.0, (now - newest).total_seconds()):.0f} s old"
    return answer.model_copy(update={"message": f"{answer.message}; {age}"})


async def _arms(connection: AsyncConnection[Any], request: CheckRequest) -> tuple[Arm, Arm]:
    stable = await read_version(connection, request.model, request.stable)
    canary = await read_version(connection, request.model, request.canary)
    return Arm(stable, ("champion",), request.since), Arm(canary, ("canary", "shadow"), request.since)


def _ranking(request: CheckRequest, champion: Scores, canary: Scores) -> CheckAnswer:
    """Compare the AUC of outcomes if there are enough, else the one expected from the PDs.

    Either may be the answer at some look, so each has half of both chances.
    """
    name = "estimated AUC lower by"
    few = min(int(champion.decisions.sum()), int(canary.decisions.sum()))
    if few < request.min_samples:
        return _too_few(name, few, request.min_samples)
    counts = [kind.sum() for arm in (champion, canary) for kind in (arm.defaulted, arm.repaid)]
    if min(counts) < _OUTCOMES_OF_A_KIND:
        ours, theirs = ranking.expected_auc(champion), ranking.expected_auc(canary)
        samples, unit = int(canary.decisions.sum()), "decisions"
        message = f"canary {theirs.value:.3f}, champion {ours.value:.3f}, if their PDs are right"
    else:
        name = "realized AUC lower by"
        ours, theirs = ranking.realized_auc(champion), ranking.realized_auc(canary)
        samples, unit = canary.known, "loans"
        message = (f"canary {theirs.value:.3f}, champion {ours.value:.3f}; Brier score {ranking.brier(canary):.4f}, "
                   f"champion {ranking.brier(champion):.4f}")  # fmt: skip
    difference = Estimate(ours.value - theirs.value, ours.variance + theirs.variance)
    scale = request.limit or _SCALE
    lower, upper = around(difference, scale, request.false_alarm / 2, request.missed / 2)
    return CheckAnswer(name=name, value=difference.value, lower=max(lower, -1.0), upper=min(upper, 1.0),
                       samples=samples, unit=unit, message=message)  # fmt: skip


def _reasons(request: CheckRequest, champion: dict[str, int], canary: dict[str, int]) -> CheckAnswer:
    name, few = "drift of principal reasons", min(sum(champion.values()), sum(canary.values()))
    if few < request.min_samples:
        return _too_few(name, few, request.min_samples, "that name reasons (?reasons=)")
    found = drift(champion, canary)
    lower, upper = around(found.distance, request.limit or _SCALE, request.false_alarm, request.missed)
    return CheckAnswer(
        name=name, value=found.distance.value, lower=max(0.0, lower), upper=min(4.0, upper),
        samples=sum(canary.values()),
        message=f"{found.reason}: canary {found.canary_share:.1%}, champion {found.champion_share:.1%}",
    )  # fmt: skip


def _too_few(name: str, found: int, needed: int, which: str = "in the log") -> CheckAnswer:
    message = f"{found} of {needed} decisions of each version {which}"
    return CheckAnswer(name=name, value=None, samples=found, message=message)


async def _calibration(connection: AsyncConnection[Any], request: CheckRequest, now: datetime) -> CheckAnswer:
    version = await read_version(connection, request.model, request.canary)
    grades = await read_grades(connection, version, now - timedelta(days=request.matured_days))
    answer = calibration(grades, version.grades, request.limit, request.false_alarm, request.missed)
    if answer.value is not None:
        return answer
    why = f"no loan of version {request.canary} is {request.matured_days} days old and has an outcome"
    return CheckAnswer(name=NAME, value=None, unit=UNIT, message=f"{why}; {answer.message}" if answer.message else why)
