"""What pods and Prometheus answer, read as numbers or as the reason why there are none."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from promoter.adapters.metrics import HttpMetrics, parse

TEXT = """\
# TYPE scorer_route_generation gauge
scorer_route_generation 7.0
# TYPE scorer_arm_requests counter
scorer_arm_requests_total{arm="canary",version="2",outcome="ok"} 40.0
scorer_arm_requests_total{arm="canary",version="3",outcome="ok"} 99.0
scorer_arm_requests_total{arm="stable",version="1",outcome="ok"} 400.0
# TYPE scorer_shadow_pairs counter
scorer_shadow_pairs_total{version="2",agreement="same"} 5.0
"""


def test_only_the_two_versions_at_hand_are_counted() -> None:
    assert parse(TEXT, "1", "2") == (
        7, {"canary/outcome/ok": 40.0, "stable/outcome/ok": 400.0, "pairs/same": 5.0}
    )  # fmt: skip


@pytest.fixture
async def prometheus() -> AsyncIterator[tuple[HttpMetrics, str, dict[str, object]]]:
    answers: dict[str, object] = {}

    async def answer(request: web.Request) -> web.Response:
        assert request.query["query"] == "up"
        return web.json_response(answers["next"])

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield HttpMetrics(session), f"http://127.0.0.1:{runner.addresses[0][1]}", answers
    await runner.cleanup()


def vector(*values: str) -> dict[str, object]:
    result = [{"value": [0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (vector("0.25"), 0.25),
        ({"status": "success", "data": {"resultType": "scalar", "result": [0, "3"]}}, 3.0),
        (vector("1", "2"), "gave 2 series; allowed is one"),
        ({"status": "error", "error": "parse error"}, "parse error"),
        (["nonsense"], "TypeError"),
    ],
)  # fmt: skip
async def test_a_query_gives_one_number_or_a_reason(
    prometheus: tuple[HttpMetrics, str, dict[str, object]], answer: object, value: float | str
) -> None:
    metrics, url, answers = prometheus
    answers["next"] = answer
    found = await metrics.query(f"{url}/", "up")
    assert found == value if isinstance(value, float) else value in str(found)


async def test_an_empty_answer_is_no_number_and_silence_is_a_reason(
    prometheus: tuple[HttpMetrics, str, dict[str, object]],
) -> None:
    metrics, url, answers = prometheus
    answers["next"] = vector()
    found = await metrics.query(url, "up")
    assert isinstance(found, float)
    assert math.isnan(found)
    assert "Cannot connect" in str(await metrics.query("http://127.0.0.1:9", "up"))
