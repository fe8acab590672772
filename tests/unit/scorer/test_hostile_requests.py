"""Hostile requests: whatever arrives, the answer is a problem that says what is wrong, never an internal error."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorer.app import create_app
from scorer.applications.duplicate_keys import duplicate_key
from scorer.canary.arm_metrics import ArmMetrics
from scorer.canary.route import CanaryRoute, Route
from scorer.canary.router import Router
from scorer.http.asgi import App
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.settings import Settings
from unit.scorer.unpaired import Unpaired


@pytest.fixture(scope="module")
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture(scope="module")
def reference(slot: ModelSlot) -> dict[str, Any]:
    assert slot.model
    return dict(slot.model.contract.reference_applicant)


@pytest.fixture(scope="module")
def app(slot: ModelSlot) -> App:
    """The application in front of an absent canary, so that it also searches bodies for the applicant."""
    metrics = Metrics()
    router = Router(None, ArmMetrics(metrics.registry), Unpaired(), "pod")  # type: ignore[arg-type]
    # A share of zero: each request is examined, and answered here.
    router.apply(Route(1, "salt", canary=CanaryRoute("8", "http://127.0.0.1:9", 0, "live", 50)))
    return create_app(Settings(), slot, metrics, router)


async def post(
    app: App, body: bytes, headers: dict[str, str] | None = None, query: str = "", path: str = "/v1/score"
) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        own = {"Content-Type": "application/json", **(headers or {})}
        return await http.post(f"{path}{query}", content=body, headers=own)


def with_value(reference: dict[str, Any], text: str) -> bytes:
    """Return the reference application with other text in place of the credit score."""
    return json.dumps({**reference, "credit_score": "@"}).replace('"@"', text).encode()


@pytest.mark.parametrize(
    "text",
    ["NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e999", "1" * 400, "1" * 5000, "-" + "9" * 5000,
     "1." + "0" * 70 + "e400",
     "0x10", "01", "+1", "1.", ".5", "1e", "true", "null", '"700"', "[700]", "{}", "1_000", "\u0661"],
)  # fmt: skip
async def test_invalid_numbers_are_refused(app: App, reference: dict[str, Any], text: str) -> None:
    found = await post(app, with_value(reference, text))
    assert found.status_code in {400, 422}, found.text
    assert found.headers["content-type"] == "application/problem+json"
    assert len(found.content) < 1000


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"}", b"null", b"[]", b'"x"', b"1", b"\x00", b"\xff\xfe", b"{}{}", b'{"a":1,}', b"{'a':1}",
     b'{"a":1}x', b"[" * 30_000, b'{"a":' * 10_000,
     b'{"gender":' + b"[" * 30_000, b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
     b'{"applicant_id":' + b'{"a":' * 9_000, b'{"gender":"\xc3\x28"}', b'{"gender":"\\ud800"}', b'{"\\u0000":1}'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
async def test_bodies_that_are_not_an_application_are_refused(app: App, body: bytes) -> None:
    found = await post(app, body)
    assert found.status_code in {400, 422}, found.text
    assert found.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/score/batch", "/invocations", "/v2/models/credit-risk/infer"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a\xff":1}', b'[{"a\xff":1}]', b'{"inputs":{"a\xff":1}}', b"[" * 30_000,
     b'{"a":' * 10_000, b'{"inputs":' + b"[" * 30_000],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
async def test_bodies_that_are_not_a_batch_are_refused(app: App, path: str, body: bytes) -> None:
    found = await post(app, body, path=path)
    # An invalid row of a batch is refused alone.
    assert found.status_code in {400, 422} or '"status":400' in found.text, found.text
    assert found.status_code < 500


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
async def test_other_encodings_are_refused(app: App, reference: dict[str, Any], encoding: str) -> None:
    assert (await post(app, json.dumps(reference).encode(encoding))).status_code == 400


async def test_every_truncation_is_refused(app: App, reference: dict[str, Any]) -> None:
    body = json.dumps(reference).encode()
    statuses = {(await post(app, body[:length])).status_code for length in range(len(body))}
    assert statuses == {400}


async def test_a_field_that_appears_twice_is_refused_by_name(app: App, reference: dict[str, Any]) -> None:
    body = json.dumps(reference)[:-1]
    for again in ('"credit_score": 300', '"credit\\u005fscore": 300', '"credit_score" : 752'):
        found = await post(app, f"{body}, {again}}}".encode())
        assert found.status_code == 400
        assert found.json()["errors"][0]["field"] == "credit_score"
    twice = '"applicant_id": "a:b", "applicant_id": "c"'
    assert (await post(app, f"{body}, {twice}}}".encode())).status_code == 400
    for once in ('"applicant_id": "a:b"', '"applicant_id": null', '"applicant_id": "plain"'):
        assert (await post(app, f"{body}, {once}}}".encode())).status_code == 200


@pytest.mark.parametrize(
    ("path", "form"),
    [("/v1/score/batch", '{{"gender": ["Male"], {twice}}}'), ("/v1/score/batch", '[{row}]'),
     ("/invocations", '{{"dataframe_records": [{row}]}}'), ("/invocations", '{{"inputs": {{"x": [1], {twice}}}}}'),
     ("/invocations", '{{"instances": [], {twice}}}'),
     ("/invocations", '{{"dataframe_split": {{"columns": [], "data": [], {twice}}}}}'),
     ("/invocations", '{{"dataframe_split": {{"columns": ["credit_score", "credit_score"], "data": []}}}}'),
     ("/v2/models/credit-risk/infer", '{{"inputs": [], {twice}}}'),
     ("/v2/models/credit-risk/infer", '{{"inputs": [{{"name": "a", "shape": [0], "datatype": "FP64", {twice}}}]}}')],
)  # fmt: skip
async def test_a_field_that_appears_twice_is_refused_by_every_endpoint(
    app: App, reference: dict[str, Any], path: str, form: str
) -> None:
    twice = '"credit_score": 300, "credit\\u005fscore": 700'
    row = f"{json.dumps({**reference, 'applicant_id': 'a:b'})[:-1]}, {twice}}}"
    found = await post(app, form.format(twice=twice, row=row).encode(), path=path)
    assert "credit_score appears twice" in found.text
    # An invalid row of a batch is refused alone.
    assert found.status_code in {400, 422} or found.json()["results"][0]["problem"]["status"] == 400


async def test_rows_of_a_batch_may_have_colons_in_their_values(app: App, reference: dict[str, Any]) -> None:
    rows = [{**reference, "applicant_id": name} for name in ("a:b", None, "c")] + [reference]
    found = await post(app, json.dumps(rows).encode(), path="/v1/score/batch")
    assert ["problem" in row for row in found.json()["results"]] == [False] * 4


@pytest.mark.parametrize(
    "deep",
    [b'{"inputs":' + b'{"a":' * 490 + b"1" + b"}" * 491, b'{"inputs":{"a:":[' + b"1" * 5000 + b"]}}",
     b'{"instances":' + b"[" * 490 + b'{"a":1}' + b"]" * 490 + b"}"],
    ids=["objects", "digits", "arrays"],
)  # fmt: skip
async def test_searching_for_duplicate_keys_never_fails(app: App, deep: bytes) -> None:
    assert (await post(app, deep, path="/invocations")).status_code in {400, 422}


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text(), min_size=1), st.data())
def test_a_duplicate_key_is_found_wherever_it_is(document: dict[str, Any], data: st.DataObject) -> None:
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items()]
    assert duplicate_key(f"{{{', '.join(pairs)}}}".encode(), len(document)) is None
    again = data.draw(st.sampled_from(pairs))
    pairs.insert(data.draw(st.integers(0, len(pairs))), again)
    assert duplicate_key(f"{{{', '.join(pairs)}}}".encode(), len(document)) in document


@pytest.mark.parametrize(
    "query", ["?reasons=0", "?reasons=12", "?reasons=1.5", "?reasons=4&reasons=5x", "?x=1", "?%ff=%00"]
)
async def test_invalid_queries_are_refused(app: App, reference: dict[str, Any], query: str) -> None:
    assert (await post(app, json.dumps(reference).encode(), query=query)).status_code == 422


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/xml", "multipart/form-data; boundary=x", "\xff"])
async def test_other_media_types_get_a_415(app: App, reference: dict[str, Any], media_type: str) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        headers = [(b"content-type", media_type.encode("latin-1"))]
        assert (await http.post("/v1/score", content=json.dumps(reference), headers=headers)).status_code == 415


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_mutation_of_an_application_is_an_internal_error(
    app: App, reference: dict[str, Any], data: st.DataObject
) -> None:
    document = dict(reference)
    for name in data.draw(st.lists(st.sampled_from([*reference, "applicant_id", "other"]), max_size=3)):
        document[name] = data.draw(JSON_VALUES)
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        body = body or bytearray(b" ")
    found = asyncio.run(post(app, bytes(body), query=data.draw(st.sampled_from(["", "?reasons=4"]))))
    assert found.status_code in {200, 400, 422}, (bytes(body), found.text)
    if found.status_code == 200:
        assert 0 <= found.json()["probability_of_default"] <= 1


async def test_bad_requests_leave_nothing_behind(app: App, reference: dict[str, Any]) -> None:
    bad = [b"[" * 30_000, with_value(reference, "1" * 5000), b"{" + b'"a":1,' * 8000, b"\xff" * 60_000]

    async def rounds(count: int) -> int:
        for number in range(count):
            assert (await post(app, bad[number % 4])).status_code in {400, 422}
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = await rounds(100)
    assert await rounds(600) - before < 20_000
