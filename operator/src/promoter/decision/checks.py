"""What the decisions service is asked about a canary."""

from __future__ import annotations

from typing import Any

from promoter.api.spec import Metric, MetricType, Spec
from promoter.api.status import State
from promoter.api.timestamps import to_text
from promoter.decision.chances import Chances


def request_of(metric: Metric, spec: Spec, state: State) -> dict[str, Any]:
    """Return a request as contracts/check-request.schema.json has it.

    Decisions count from the first step on. A shadow phase counts by itself, so it has half of the chance.
    """
    chances = Chances.of(spec, 1)
    since = state.steps_started_at or state.step_started_at or 0.0
    request: dict[str, Any] = {
        "type": metric.type.value, "model": spec.model.name, "stable": state.stable_version or "",
        "canary": state.canary_version or "", "since": to_text(since), "limit": metric.effective_limit,
        "false_alarm": chances.by_pairs / (2 if spec.shadow else 1), "missed": chances.missed,
        "min_samples": spec.analysis.min_samples, "matured_days": metric.matured_days,
        "query": metric.query if metric.type == MetricType.SQL else None,
    }  # fmt: skip
    return {name: value for name, value in request.items() if value is not None}
