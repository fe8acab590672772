"""Measure what is not in the pods' metrics: queries of Prometheus, and checks of the decision log."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from string import Template

from promoter.api.spec import DECISION_LOG, Metric, MetricType, Spec
from promoter.decision.analysis import analysis_due
from promoter.decision.checks import request_of
from promoter.decision.observation import CheckAnswer, Observation
from promoter.promotion import Adapters, Promotion


async def measured(
    adapters: Adapters, promotion: Promotion, spec: Spec, observed: Observation, now: float
) -> Observation:
    """Return an observation with the answers to queries and checks, if an analysis is due."""
    if promotion.state.step_started_at is None or not analysis_due(spec, promotion.state, now):
        return observed
    queries, answers = await asyncio.gather(
        _queries(adapters, promotion, spec, now), _checks(adapters, promotion, spec)
    )
    checks = {metric: found for metric, found in answers.items() if metric.type != MetricType.SQL}
    numbers = {metric.display_name: _number(found) for metric, found in answers.items() if metric not in checks}
    return dataclasses.replace(observed, queries=queries | numbers, checks=checks)


async def _checks(adapters: Adapters, promotion: Promotion, spec: Spec) -> dict[Metric, CheckAnswer | str]:
    metrics, service = [metric for metric in spec.metrics if metric.type in DECISION_LOG], adapters.checks
    if service is None:
        return {}
    answers = await asyncio.gather(*(service.check(request_of(metric, spec, promotion.state)) for metric in metrics))
    return dict(zip(metrics, answers, strict=True))


def _number(answer: CheckAnswer | str) -> float | str:
    """Return the number of SQL as that of a Query: NaN for none, or why it could not be measured."""
    if isinstance(answer, str):
        return answer
    return math.nan if answer.value is None else answer.value


async def _queries(adapters: Adapters, promotion: Promotion, spec: Spec, now: float) -> dict[str, float | str]:
    state = promotion.state
    metrics = [metric for metric in spec.metrics if metric.type == MetricType.QUERY and metric.query]
    window = max(1, int(now - (state.step_started_at or now)))
    variables = {
        "namespace": promotion.owner.namespace, "target": spec.target_ref.name, "stable": state.stable_version or "",
        "canary": state.canary_version or "", "window": f"{window}s",
    }  # fmt: skip
    url = spec.analysis.prometheus_url or ""
    answers = await asyncio.gather(*(
        adapters.metrics.query(url, Template(metric.query or "").safe_substitute(variables)) for metric in metrics
    ))  # fmt: skip
    return {metric.display_name: answer for metric, answer in zip(metrics, answers, strict=True)}
