"""The Metrics port: pods' own /metrics, /readyz and /v1/model, and Prometheus."""

from __future__ import annotations

import math
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from promoter.decision.observation import PodReading
from promoter.ports import Pod

Document = dict[str, Any]
_FAULTS = (aiohttp.ClientError, TimeoutError, ValueError, KeyError)


class HttpMetrics:
    """Reads pods and Prometheus over HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Take a session; its timeouts apply."""
        self._session = session

    async def read(self, pod: Pod, stable: str | None, canary: str | None) -> PodReading:
        """Read a stable pod's counters of both arms; what goes wrong stands in the reading."""
        try:
            text = await self._text(f"http://{pod.address}:{pod.management_port}/metrics")
            generation, counters = parse(text, stable, canary)
        except _FAULTS as error:
            return PodReading(pod.name, pod.started_at, error=f"{type(error).__name__} {error}".strip())
        return PodReading(pod.name, pod.started_at, generation, counters)

    async def not_ready_reason(self, pod: Pod) -> str:
        """Return why a pod says that it is not ready, "" where it says nothing."""
        try:
            async with self._session.get(f"http://{pod.address}:{pod.management_port}/readyz") as response:
                answer = await response.json(content_type=None)
                return "" if response.status == 200 else str(answer.get("detail", ""))
        except (*_FAULTS, AttributeError):
            return ""

    async def contract(self, pod: Pod) -> Document:
        """Return the contract of the model that a pod serves, {} where it cannot be had now."""
        try:
            async with self._session.get(f"http://{pod.address}:{pod.management_port}/v1/model") as response:
                answer = await response.json(content_type=None)
                return dict(answer["contract"]) if response.status == 200 else {}
        except (*_FAULTS, TypeError):
            return {}

    async def query(self, url: str, query: str) -> float | str:
        """Return a query's number (NaN for an empty answer), or why there is none."""
        try:
            async with self._session.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query}) as response:
                answer = await response.json(content_type=None)
            if answer["status"] != "success":
                return str(answer.get("error", "the query failed"))
            return _number(answer["data"])
        except (*_FAULTS, TypeError, IndexError) as error:
            return f"{type(error).__name__} {error}".strip()

    async def _text(self, url: str) -> str:
        async with self._session.get(url) as response:
            response.raise_for_status()
            return await response.text()


def _number(data: Document) -> float:
    if data["resultType"] == "scalar":
        return float(data["result"][1])
    found = data["result"]
    if len(found) > 1:
        raise ValueError(f"the query gave {len(found)} series; allowed is one")
    return float(found[0]["value"][1]) if found else math.nan


def parse(text: str, stable: str | None, canary: str | None) -> tuple[int | None, dict[str, float]]:
    """Return the route generation that a pod has, and the counters of both arms by short names.

    Names are `arm/outcome/<outcome>`, `arm/seconds/<le>`, `arm/score/<le>`, `arm/decision/<decision>` for the arms
    stable and canary, and `pairs/<agreement>`; other versions' series are left out.
    """
    generation: int | None = None
    counters: dict[str, float] = {}
    versions = {"stable": stable, "canary": canary}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "scorer_route_generation":
                generation = int(sample.value)
            elif name := _short(sample, versions):
                counters[name] = counters.get(name, 0.0) + sample.value
    return generation, counters


_SERIES = {
    "scorer_arm_requests_total": ("outcome", "outcome"),
    "scorer_arm_seconds_bucket": ("seconds", "le"),
    "scorer_arm_probability_of_default_bucket": ("score", "le"),
    "scorer_arm_decisions_total": ("decision", "decision"),
}


def _short(sample: Sample, versions: dict[str, str | None]) -> str | None:
    labels = sample.labels
    if sample.name == "scorer_shadow_pairs_total" and labels["version"] == versions["canary"]:
        return f"pairs/{labels['agreement']}"
    if sample.name not in _SERIES or labels["version"] != versions.get(labels["arm"]):
        return None
    kind, label = _SERIES[sample.name]
    return f"{labels['arm']}/{kind}/{labels[label]}"
