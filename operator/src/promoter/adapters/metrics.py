"""The Metrics port over HTTP: /metrics, /readyz and /v1/model of the scoring pods, and Prometheus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from promoter.decision.observation import PodReading
from promoter.decision.readiness import Readiness, ReadinessCode
from promoter.ports import Pod

Document = dict[str, Any]
_ERRORS = (aiohttp.ClientError, TimeoutError, ValueError, KeyError)


# The metrics of a scoring pod that are read here: names, types and labels as in contracts/metrics.json.
ROUTE_GENERATION = "scorer_route_generation"


@dataclass(frozen=True)
class Series:
    """A series of a scoring pod: its short name, and the labels whose values it is split by, in their order."""

    key: str
    labels: tuple[str, ...] = ()


SERIES = {
    "scorer_arm_requests_total": Series("outcome", ("outcome",)),
    "scorer_arm_seconds_bucket": Series("seconds", ("le",)),
    "scorer_arm_probability_of_default_bucket": Series("score", ("le",)),
    "scorer_arm_decisions_total": Series("decision", ("decision",)),
    "scorer_pair_decisions_total": Series("pair/decision", ("change",)),
    "scorer_pair_scores_total": Series("pair/score", ("champion", "canary")),
    "scorer_pair_score_rise_total": Series("pair/rise"),
    "scorer_pair_score_fall_total": Series("pair/fall"),
    "scorer_pair_score_squares_total": Series("pair/squares"),
    "scorer_pair_segments_total": Series("pair/segment", ("feature", "value", "change")),
    "scorer_pair_reasons_total": Series("pair/reason", ("change",)),
}
# A slash in the name or in a value of a feature would split its short name; this one only looks like it.
_SLASHES = str.maketrans("/", "\N{DIVISION SLASH}")


class HttpMetrics:
    """Reads pods and Prometheus over HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Take a session; its timeouts apply."""
        self._session = session

    async def read(self, pod: Pod, stable: str | None, canary: str | None) -> PodReading:
        """Return a stable pod's counters for both arms; errors are part of the reading."""
        try:
            text = await self._text(_url(pod, "/metrics"))
            generation, counters = parse(text, stable, canary)
        except _ERRORS as error:
            return PodReading(pod.name, pod.started_at, error=f"{type(error).__name__} {error}".strip())
        return PodReading(pod.name, pod.started_at, generation, counters)

    async def readiness(self, pod: Pod) -> Readiness:
        """Return what a pod answers on /readyz; empty if it does not answer."""
        try:
            async with self._session.get(_url(pod, "/readyz")) as response:
                return read_readiness(await response.json(content_type=None))
        except _ERRORS:
            return Readiness()

    async def contract(self, pod: Pod) -> Document:
        """Return the contract of the model that a pod serves, {} if it is unavailable."""
        try:
            async with self._session.get(_url(pod, "/v1/model")) as response:
                answer = await response.json(content_type=None)
                return dict(answer["contract"]) if response.status == 200 else {}
        except (*_ERRORS, TypeError):
            return {}

    async def query(self, url: str, query: str) -> float | str:
        """Return the number of a PromQL query (NaN for an empty answer), or why there is none."""
        try:
            async with self._session.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query}) as response:
                answer = await response.json(content_type=None)
            if answer["status"] != "success":
                return str(answer.get("error", "the query failed"))
            return _number(answer["data"])
        except (*_ERRORS, TypeError, IndexError) as error:
            return f"{type(error).__name__} {error}".strip()

    async def _text(self, url: str) -> str:
        async with self._session.get(url) as response:
            response.raise_for_status()
            return await response.text()


def _url(pod: Pod, path: str) -> str:
    """Return a URL on a pod's management port; its address is one of IPv4 or of IPv6."""
    host = f"[{pod.address}]" if ":" in pod.address else pod.address
    return f"http://{host}:{pod.management_port}{path}"


def _number(data: Document) -> float:
    if data["resultType"] == "scalar":
        return float(data["result"][1])
    found = data["result"]
    if len(found) > 1:
        raise ValueError(f"the query returned {len(found)} series; allowed is one")
    return float(found[0]["value"][1]) if found else math.nan


def read_readiness(answer: object) -> Readiness:
    """Return what a body of /readyz says; a code that this operator does not know counts as none."""
    if not isinstance(answer, dict):
        return Readiness()
    known = {code.value: code for code in ReadinessCode}
    return Readiness(known.get(str(answer.get("code"))), str(answer.get("detail", "")))


def parse(text: str, stable: str | None, canary: str | None) -> tuple[int | None, dict[str, float]]:
    """Return the route generation that a pod applies, and the counters of both arms by short names.

    Names are `arm/outcome/<outcome>`, `arm/seconds/<le>`, `arm/score/<le>`, `arm/decision/<decision>` for the arms
    stable and canary, and `pair/decision/<change>`, `pair/score/<champion>/<canary>`, `pair/rise`, `pair/fall`,
    `pair/squares`, `pair/segment/<feature>/<value>/<change>` and `pair/reason/<change>`; slashes in features and values
    become division slashes. The series of other versions are left out.
    """
    generation: int | None = None
    counters: dict[str, float] = {}
    versions = {"stable": stable, "canary": canary}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == ROUTE_GENERATION:
                generation = int(sample.value)
            elif name := _short_name(sample, versions):
                counters[name] = counters.get(name, 0.0) + sample.value
    return generation, counters


def _short_name(sample: Sample, versions: dict[str, str | None]) -> str | None:
    series, labels = SERIES.get(sample.name), sample.labels
    if series is None or labels["version"] != versions.get(labels.get("arm", "canary")):
        return None
    prefix = f"{labels['arm']}/{series.key}" if "arm" in labels else series.key
    return "/".join([prefix, *(labels[label].translate(_SLASHES) for label in series.labels)])
