"""Paired scoring: the same applications under both models, compared in groups after their answers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import pytest
from aiohttp import web
from msgspec import UNSET
from prometheus_client import CollectorRegistry

from scorer.answers import Decision, ModelReference, Reason, Score
from scorer.app import create_app
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.pair_metrics import PairMetrics, Side
from scorer.canary.pairing import GROUP_COST, QUEUE_LENGTH, Pairing
from scorer.canary.route import CanaryRoute, Route
from scorer.canary.router import Router
from scorer.canary.segments import MAX_FEATURES, MAX_VALUES, Segments
from scorer.contract import CategoricalFeature, Contract, Feature, NumericFeature
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.decision_segments import decision_log, decisions
from unit.scorer.missing_model import FEATURES, REFERENCE, write_model

Labels = dict[str, str]
# Below and above the champion's threshold.
SAFE, RISKY = {**REFERENCE, "bureau_score": 850.0}, {**REFERENCE, "bureau_score": 300.0, "region": None, "home": "rent"}


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_model(tmp_path_factory.mktemp("champion"))
    return load_model(folder, Identity("credit-risk", "1", "run", {}, {}))


@pytest.fixture(scope="module")
def challenger(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same network with another threshold and without the champion's protected feature."""
    features = [{**feature, "protected": False} for feature in FEATURES]
    folder = write_model(tmp_path_factory.mktemp("challenger"), decision_threshold=0.2, features=features)
    return load_model(folder, Identity("credit-risk", "2", "run", {}, {}))


def answer(probability: float, decision: Decision, *codes: str, version: str = "2") -> Score:
    """Return an answer; with codes, reasons were asked for."""
    reasons = tuple(Reason("", code, "", 1.0, -1.0) for code in codes) if codes else UNSET
    return Score("r", probability, 500, decision, ModelReference("credit-risk", version), "pod", reasons=reasons)


def body(application: dict[str, Any]) -> bytes:
    return json.dumps(application).encode()


class Registry(CollectorRegistry):
    """A registry whose pair series can be looked up without the `scorer_pair` before their names."""

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """Return each series' value by its labels' values; the labels are sorted by name, without the version."""
        found = [
            (tuple(value for key, value in sorted(sample.labels.items()) if key != "version"), sample.value)
            for family in self.collect()
            for sample in family.samples
            if sample.name == f"scorer_pair{name}_total"
        ]
        assert len(dict(found)) == len(found)
        return dict(found)

    def pairs(self) -> float:
        return sum(self.series("_decisions").values())

    def dropped(self) -> dict[str, float]:
        return {cause: count for (cause,), count in self.series("s_dropped").items() if count}


@asynccontextmanager
async def running(pairing: Pairing) -> AsyncIterator[None]:
    task = asyncio.create_task(pairing.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled(registry: Registry, count: int) -> None:
    """Wait until so many pairs were compared or dropped."""
    async with asyncio.timeout(5):
        while registry.pairs() + sum(registry.dropped().values()) < count:
            await asyncio.sleep(0.005)


async def compare(pairing: Pairing, registry: Registry, *taken: tuple[dict[str, Any], Score]) -> None:
    async with running(pairing):
        for application, canary in taken:
            pairing.add("2", body(application), canary)
        await settled(registry, len(taken))


def probability_of(model: Model, application: dict[str, Any]) -> float:
    return float(model.network.score(*model.decoder.decode(body(application)))[0])


async def test_pairs_are_counted_by_decisions_scores_and_groups(champion: Model) -> None:
    registry = Registry()
    safe, risky = probability_of(champion, SAFE), probability_of(champion, RISKY)
    assert (round(safe, 2), round(risky, 2)) == (0.31, 0.92)
    await compare(
        Pairing(ModelSlot(champion), PairMetrics(registry)), registry, (SAFE, answer(0.41, "approve")),
        (SAFE, answer(0.05, "decline")), (RISKY, answer(0.99, "decline")), (RISKY, answer(0.05000001, "approve")),
    )  # fmt: skip
    assert registry.series("_decisions") == dict.fromkeys(
        [("both_approve",), ("approve_to_decline",), ("both_decline",), ("decline_to_approve",)], 1
    )
    # Labels in the order canary, champion: an edge belongs to the bin below it.
    assert registry.series("_scores") == dict.fromkeys(
        [("0.45", "0.35"), ("0.05", "0.35"), ("+Inf", "0.95"), ("0.1", "0.95")], 1
    )
    differences = np.array([0.41 - safe, 0.05 - safe, 0.99 - risky, 0.05000001 - risky])
    assert registry.series("_score_rise")[()] == pytest.approx(differences.clip(0).sum())
    assert registry.series("_score_fall")[()] == pytest.approx(-differences.clip(None, 0).sum())
    assert registry.series("_score_squares")[()] == pytest.approx((differences**2).sum())
    assert registry.series("_segments") == {
        ("both_approve", "region", "north"): 1, ("approve_to_decline", "region", "north"): 1,
        ("both_decline", "region", "(missing)"): 1, ("decline_to_approve", "region", "(missing)"): 1,
    }  # fmt: skip
    assert not registry.series("_reasons")
    assert registry.dropped() == {}


async def test_principal_reasons_are_compared_where_reasons_were_asked_for(champion: Model) -> None:
    registry = Registry()
    explanation = champion.explainer.explain(*champion.decoder.decode(body(RISKY)))[0]
    code = champion.explainer.principal(explanation)
    assert code == champion.explainer.reasons(explanation, 1, 20.0)[0].code
    (unharmed,) = champion.explainer.explain(*champion.decoder.decode(body(REFERENCE)))
    assert champion.explainer.principal(unharmed) is None
    taken = [
        (RISKY, answer(0.9, "decline", code, "R1")),
        (RISKY, answer(0.9, "decline", "R9", code)),
        (RISKY, answer(0.9, "decline")),
        (REFERENCE, answer(0.9, "decline", code)),
    ]
    await compare(Pairing(ModelSlot(champion), PairMetrics(registry)), registry, *taken)
    assert registry.series("_reasons") == {("same",): 1, ("different",): 2}
    assert registry.series("_decisions")[("both_decline",)] == 3
    assert probability_of(champion, RISKY) == pytest.approx(explanation.probability)


async def test_copies_that_both_models_answered_are_compared_as_answered(champion: Model) -> None:
    registry = Registry()
    pairing = Pairing(ModelSlot(champion), PairMetrics(registry), enabled=False)
    pairing.add("2", body(SAFE), answer(0.9, "decline"))
    async with running(pairing):
        pairing.add_answered("2", body(SAFE), answer(0.9, "decline", "R1"), answer(0.8, "approve", "R1", version="1"))
        await settled(registry, 1)
    assert registry.series("_decisions") == {("approve_to_decline",): 1}, "nothing else: pairing is off"
    assert registry.series("_scores") == {("0.9", "0.8"): 1}
    assert registry.series("_segments") == {("approve_to_decline", "region", "north"): 1}
    assert registry.series("_reasons") == {("same",): 1}


@dataclasses.dataclass
class CountingNetwork:
    """A network that notes how many rows each call had, and fails for a row of this income."""

    model: Model
    poisoned: float = -1.0
    calls: list[int] = dataclasses.field(default_factory=list)

    def score_many(self, numeric: Any, codes: Any) -> Any:
        self.calls.append(len(numeric))
        if (numeric[:, 0] == self.poisoned).any():
            raise RuntimeError("no score")
        return self.model.network.score_many(numeric, codes)


async def test_one_call_of_the_model_scores_many_pairs(champion: Model) -> None:
    registry, network = Registry(), CountingNetwork(champion)
    model = dataclasses.replace(champion, network=network)  # type: ignore[arg-type]
    await compare(Pairing(ModelSlot(model), PairMetrics(registry)), registry, *[(SAFE, answer(0.3, "approve"))] * 100)
    assert registry.pairs() == sum(network.calls) == 100
    assert len(network.calls) == 100 // GROUP_COST + 1


async def test_what_the_champion_cannot_read_or_score_is_dropped_and_counted(
    champion: Model, caplog: pytest.LogCaptureFixture
) -> None:
    registry, network = Registry(), CountingNetwork(champion, poisoned=77_777.0)
    model = dataclasses.replace(champion, network=network)  # type: ignore[arg-type]
    pairing = Pairing(ModelSlot(model), PairMetrics(registry))
    new_field, fine = ({**SAFE, "new_field": 1}, answer(0.3, "approve")), (SAFE, answer(0.3, "approve"))
    await compare(pairing, registry, new_field, fine, ({**SAFE, "home": "boat"}, answer(0.3, "approve")))
    assert (registry.dropped(), registry.pairs()) == ({"unlike_inputs": 2}, 1)
    with caplog.at_level(logging.ERROR):
        await compare(pairing, registry, new_field, *[({**SAFE, "income": 77_777.0}, answer(0.3, "approve"))] * 39)
    await settled(registry, 43)
    assert (registry.dropped(), registry.pairs()) == ({"unlike_inputs": 2, "error": 40}, 1)
    assert len(caplog.records) == 1, "a model that fails fills no log"
    async with running(pairing):
        pairing.add("2", body(SAFE), fine[1])
        await settled(registry, 44)
    assert registry.pairs() == 2


async def test_pairs_beyond_the_queue_are_dropped_and_counted(champion: Model) -> None:
    registry = Registry()
    pairing = Pairing(ModelSlot(champion), PairMetrics(registry))
    for _ in range(QUEUE_LENGTH + 7):
        pairing.add("2", body(SAFE), answer(0.3, "approve"))
    assert registry.dropped() == {"busy": 7}
    async with running(pairing):
        await settled(registry, QUEUE_LENGTH + 7)
    assert registry.pairs() == QUEUE_LENGTH


async def test_pairing_leaves_most_of_the_core_to_requests(champion: Model) -> None:
    """Whatever waits, the event loop gets a turn after each group, and the worker rests longer than it worked."""
    registry, network = Registry(), CountingNetwork(champion)
    model = dataclasses.replace(champion, network=network)  # type: ignore[arg-type]
    pairing = Pairing(ModelSlot(model), PairMetrics(registry))
    for _ in range(QUEUE_LENGTH):
        pairing.add("2", body(SAFE), answer(0.3, "approve"))
    turns, calls = 0, Counter[int]()
    async with running(pairing):
        while registry.pairs() < QUEUE_LENGTH:
            await asyncio.sleep(0)
            turns += 1
            calls[turns] = len(network.calls)
    increases = [later - earlier for earlier, later in zip(calls.values(), list(calls.values())[1:], strict=False)]
    assert max(increases) == 1
    assert turns > 10 * len(network.calls)


def test_the_champion_of_a_pod_without_a_model_has_no_version(champion: Model) -> None:
    slot = ModelSlot()
    pairing = Pairing(slot, PairMetrics(Registry()))
    assert pairing.champion_version is None
    slot.model = champion
    assert pairing.champion_version == "1"


def number(name: str, **changes: Any) -> NumericFeature:
    return NumericFeature(name, "years", 0.0, 120.0, "", f"R-{name}", True, **changes)


def word(name: str, count: int, **changes: Any) -> CategoricalFeature:
    return CategoricalFeature(name, tuple(f"{name}-{n}" for n in range(count)), "", f"R-{name}", True, **changes)


def segments_of(*features: Feature) -> Segments:
    usual = {f.name: 0.0 if isinstance(f, NumericFeature) else f.categories[0] for f in features}
    document = {"format_version": 2, "model_name": "m", "reference_applicant": usual, "score_histogram": None}
    return Segments(Contract(**document, features=features, decision_threshold=0.5, training_data_sha256=""))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("age", "group"),
    [(10.0, "20 to 32.5"), (20.0, "20 to 32.5"), (32.5, "32.5 to 45"), (44.9, "32.5 to 45"), (70.0, "57.5 to 70"),
     (99.0, "57.5 to 70"), (np.nan, "(missing)")],
)  # fmt: skip
def test_numbers_are_grouped_by_quarters_of_their_range_in_training(age: float, group: str) -> None:
    segments = segments_of(number("age", missing=True, training_minimum=20.0, training_maximum=70.0))
    rows = np.array([[0.0], [age]], np.float32), np.zeros((2, 0), np.int64)
    assert segments.of(*rows, row=1) == [("age", group)]


def test_features_and_groups_are_bounded() -> None:
    wide = word("wide", 30, missing=True, other=True)
    segments = segments_of(wide, *(word(f"f{n}", 2) for n in range(MAX_FEATURES + 3)), number("age"))
    numbers, others = np.zeros((1, 1), np.float32), [0] * (MAX_FEATURES + 3)
    names = {segments.of(numbers, np.array([[code, *others]]))[0] for code in range(32)}
    named = {f"wide-{n}" for n in range(MAX_VALUES - 1)} | {"(missing)"}
    assert {value for _, value in names} == {*named, "(other)"}
    found = segments.of(numbers, np.array([[0, *others]]))
    assert [name for name, _ in found] == ["wide", *(f"f{n}" for n in range(MAX_FEATURES - 1))]


def test_equal_scores_count_as_no_difference() -> None:
    registry = Registry()
    metrics = PairMetrics(registry)
    metrics.compared("2", Side(0.25, "approve"), Side(0.25, "approve"), [], explained=True)
    assert registry.series("_score_rise") == registry.series("_score_fall") == {(): 0.0}
    assert registry.series("_reasons") == {("same",): 1}, "neither has a reason"


# --- through the service


@asynccontextmanager
async def canary_of(model: Model) -> AsyncIterator[str]:
    """Serve a model as a canary, and yield its URL."""
    transport = httpx.ASGITransport(create_app(Settings(pod_name="canary"), ModelSlot(model), Metrics()))

    async def score(request: web.Request) -> web.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://canary") as http:
            found = await http.post(str(request.rel_url), content=await request.read())
        return web.Response(body=found.content, status=found.status_code, content_type="application/json")

    runner = web.AppRunner(served := web.Application())
    served.router.add_post("/v1/score", score)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_requests_that_the_canary_answers_are_compared_and_the_champions_scores_are_not_logged(
    champion: Model, challenger: Model, tmp_path: Path
) -> None:
    registry, slot = Registry(), ModelSlot(champion)
    pairing = Pairing(slot, PairMetrics(registry))
    async with (
        canary_of(challenger) as url, aiohttp.ClientSession() as session, decision_log(tmp_path) as logging_decisions,
        running(pairing),
    ):  # fmt: skip
        router = Router(session, ArmMetrics(registry), pairing, "stable-pod")
        router.apply(Route(1, "salt", None, CanaryRoute("2", url, 100, "live", 30_000)))
        app = create_app(Settings(pod_name="stable-pod"), slot, Metrics(), router, decisions=logging_decisions.log)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://stable") as http:
            for application, query in ((SAFE, ""), (RISKY, "?reasons=3"), (RISKY, "")):
                found = await http.post(f"/v1/score{query}", json=application)
                assert found.json()["model"]["version"] == "2"
        await settled(registry, 3)
    assert registry.series("_decisions") == {("approve_to_decline",): 1, ("both_decline",): 2}
    assert registry.series("_score_rise") == registry.series("_score_fall") == {(): 0.0}
    assert registry.series("_reasons") == {("same",): 1}
    assert {value for _, _, value in registry.series("_segments")} == {"north", "(missing)"}
    assert not decisions(tmp_path)
