"""Categories that are numbers or booleans: the same one by its text, by other spellings, and by JSON's own values."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.app import create_app
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.missing_model import FEATURES, REFERENCE, write_model
from unit.scorer.protocols import BATCH, PARQUET, PROTOCOLS, probabilities, sample

CATEGORIES = {"home": ["1", "2"], "region": ["True", "False"], "employer": ["-2.5", "10"]}
APPLICANT: dict[str, Any] = {**REFERENCE, "home": "2", "region": "False", "employer": "10"}
SPELLINGS: dict[str, dict[str, Any]] = {
    "values": {"home": 2, "region": False, "employer": 10},
    "floats": {"home": 2.0, "region": False, "employer": 10.0},
    "texts": {"home": "2.0", "region": "false", "employer": "10.00"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    features = [
        {**feature, "categories": CATEGORIES.get(feature["name"], feature.get("categories"))}
        if feature["kind"] == "categorical"
        else feature
        for feature in FEATURES
    ]
    reference = {**REFERENCE, **{name: words[0] for name, words in CATEGORIES.items()}}
    folder = write_model(tmp_path_factory.mktemp("values"), features=features, reference_applicant=reference)
    return load_model(folder, Identity("credit-risk", "7", "run", {}, {}))


@pytest.fixture
async def client(model: Model) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(), ModelSlot(model), Metrics()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


async def send(client: httpx.AsyncClient, protocol: str, row: dict[str, Any]) -> httpx.Response:
    form = sample(protocol, [row])
    headers = {"Content-Type": form.media_type, **form.headers}
    return await client.post(form.path, content=form.body, headers=headers)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_every_spelling_is_the_same_category_in_every_protocol(client: httpx.AsyncClient, protocol: str) -> None:
    expected = (await client.post("/v1/score", json=APPLICANT)).json()["probability_of_default"]
    usual = (await client.post("/v1/score", json={**APPLICANT, "home": "1"})).json()["probability_of_default"]
    assert usual != expected
    for spelled in SPELLINGS.values():
        answer = await send(client, protocol, {**APPLICANT, **spelled})
        assert answer.status_code == 200, answer.text
        assert probabilities(protocol, answer) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_value_that_is_no_category_is_refused_with_what_is_allowed(
    client: httpx.AsyncClient, protocol: str
) -> None:
    answer = await send(client, protocol, {**APPLICANT, "home": 3})
    text = answer.content.decode("latin-1")
    assert "one of 1, 2" in text
    assert "not a string" not in text


@pytest.mark.parametrize(
    ("field", "value"),
    [("home", "02"), ("home", "2.5"), ("home", "2,0"), ("home", " 2"), ("home", True), ("home", ""), ("home", [2]),
     ("home", float("1e300")), ("region", 0), ("region", "0"), ("region", "no"), ("purpose", 1), ("purpose", False),
     ("employer", ""), ("employer", [10])],
)  # fmt: skip
async def test_what_only_looks_alike_is_another_value(client: httpx.AsyncClient, field: str, value: Any) -> None:
    for path, body in (("/v1/score", {**APPLICANT, field: value}), (BATCH, [{**APPLICANT, field: value}])):
        answer = await client.post(path, json=body)
        problem = answer.json() if path == "/v1/score" else answer.json()["results"][0]["problem"]
        assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("value", [11, "11", 11.0, True, "C"])
async def test_where_other_categories_are_accepted_a_number_is_one_too(client: httpx.AsyncClient, value: Any) -> None:
    answers = [(await client.post("/v1/score", json={**APPLICANT, "employer": sent})).json() for sent in ("Z", value)]
    assert answers[0]["probability_of_default"] == answers[1]["probability_of_default"]
    assert [warning["code"] for warning in answers[1]["warnings"]] == ["unseen-category"]


async def test_a_table_with_gaps_holds_integers_as_floats(client: httpx.AsyncClient) -> None:
    """As pandas writes them; the gap is refused where the model takes none."""
    names = dict.fromkeys(APPLICANT)
    table = pa.table({name: [APPLICANT[name]] * 2 for name in names if name != "home"} | {"home": [2.0, None]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    answer = await client.post(BATCH, content=buffer.getvalue(), headers={"Content-Type": PARQUET})
    found = pq.read_table(io.BytesIO(answer.content)).to_pydict()
    assert [score is None for score in found["probability_of_default"]] == [False, True]
    assert "home" in found["problem"][1]
