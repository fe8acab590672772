"""Content-Encoding: every protocol reads every coding, within the limits of what it holds."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from scorer.app import create_app
from scorer.http import content_coding
from scorer.http.asgi import Message, Receive, Scope, Send, read_body, send_answer
from scorer.http.content_coding import MAX_MEMBERS, PIECE_BYTES, CodedBodies, Inflater, coding_of
from scorer.http.dispatcher import BodyBudget, Dispatcher
from scorer.metrics import Metrics
from scorer.model.bundle import ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.problems import Problem
from scorer.settings import Settings
from unit.scorer.protocols import PROTOCOLS, TEXTS, Sample, probabilities, sample


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(data) + encoder.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress,
}  # fmt: skip
ALL = [*ENCODERS.items(), ("deflate", raw_deflate)]
ALL_IDS = [*ENCODERS, "raw-deflate"]
# A body that the service never holds whole.
BOMB = bytes(64 * 2**20)


@pytest.fixture(scope="module")
def slot(model_folder: Path) -> ModelSlot:
    return ModelSlot(load_model(model_folder, Identity("credit-risk", "7", "run", {}, {})))


@pytest.fixture(scope="module")
def applicant(slot: ModelSlot) -> dict[str, Any]:
    return dict(slot.require().contract.reference_applicant)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(slot: ModelSlot, metrics: Metrics) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(Settings(), slot, metrics), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        yield http


async def post(client: httpx.AsyncClient, form: Sample, body: bytes, *codings: str) -> httpx.Response:
    own = [("Content-Type", form.media_type), *form.headers.items()]
    headers = own + [("Content-Encoding", coding) for coding in codings]
    return await client.post(form.path, content=body, headers=headers)


@pytest.mark.parametrize(("coding", "encode"), ALL, ids=ALL_IDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_every_protocol_scores_coded_bodies_as_plain_ones(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    form = sample(protocol, [applicant, {**applicant, "credit_score": 400}])
    plain = await post(client, form, form.body)
    assert plain.status_code == 200, plain.text
    coded = await post(client, form, encode(form.body), coding)
    assert coded.status_code == 200, coded.text
    assert probabilities(protocol, coded) == probabilities(protocol, plain)


@pytest.mark.parametrize("given", [[], ["identity"], ["IDENTITY"], [""], ["identity, identity"], ["identity", " "]])
@pytest.mark.parametrize("protocol", ["single", "records"])
async def test_identity_is_no_coding(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str, given: list[str]
) -> None:
    form = sample(protocol, [applicant])
    assert (await post(client, form, form.body, *given)).status_code == 200


@pytest.mark.parametrize("given", [["GZip"], ["identity, gzip"], ["identity", "gzip"], [" gzip ,"]])
async def test_names_of_codings_have_no_case_and_identity_adds_nothing(
    client: httpx.AsyncClient, applicant: dict[str, Any], given: list[str]
) -> None:
    form = sample("single", [applicant])
    assert (await post(client, form, gzip.compress(form.body), *given)).status_code == 200


@pytest.mark.parametrize("given", [["br"], ["gzip, gzip"], ["gzip", "zstd"], ["compress"], ["*"], ["\u00ff" * 200]])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_other_codings_get_a_415_that_lists_those_that_are_read(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str, given: list[str]
) -> None:
    form = sample(protocol, [applicant])
    transport = client._transport
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        headers = [(b"content-type", form.media_type.encode())]
        headers += [(b"content-encoding", value.encode("latin-1")) for value in given]
        found = await http.post(form.path, content=form.body, headers=headers)
    assert found.status_code == 415
    assert found.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert found.headers["content-type"] == "application/problem+json"
    assert "allowed: one of gzip, deflate, zstd" in found.json()["detail"]


def status_of(protocol: str, found: httpx.Response) -> int:
    """Return an answer's status; a stream of lines names it in its last line."""
    if protocol == "lines" and found.status_code == 200:
        return int(found.text.splitlines()[-1].partition('"status":')[2].partition(",")[0])
    return found.status_code


@pytest.mark.parametrize(("coding", "encode"), ALL, ids=ALL_IDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_broken_bodies_get_a_400(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    form = sample(protocol, [applicant] * 20)
    whole = encode(form.body)
    # Cut short in two places, followed by something else, and not encoded at all.
    damaged = [whole[:-1], whole[: len(whole) // 2], whole + b"rest", b"\x00" * 40]
    for body in damaged:
        found = await post(client, form, body, coding)
        assert status_of(protocol, found) in ({400, 413} if protocol == "single" else {400}), found.text
        assert f"the body is not valid {coding}: " in found.text or status_of(protocol, found) == 413


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_bomb_is_refused_by_the_limit_of_the_plain_body(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated = 0
    plain = Inflater.inflate

    def counting(self: Inflater, data: bytes) -> Any:
        nonlocal inflated
        for piece in plain(self, data):
            inflated += len(piece)
            yield piece

    monkeypatch.setattr(content_coding.Inflater, "inflate", counting)
    form = sample(protocol, [applicant])
    found = await post(client, form, ENCODERS[coding](BOMB), coding)
    assert status_of(protocol, found) == 413
    limit = 65536 if protocol in {"single", "lines"} else 8_388_608
    assert f"{limit} bytes" in found.text
    assert inflated <= limit + 2 * PIECE_BYTES


async def test_a_refused_coded_application_is_counted(
    client: httpx.AsyncClient, applicant: dict[str, Any], metrics: Metrics
) -> None:
    form = sample("single", [applicant])
    for body, coding in [(b"x", "gzip"), (form.body, "br"), (gzip.compress(BOMB), "gzip")]:
        await post(client, form, body, coding)
    counts = {
        status: metrics.registry.get_sample_value("scorer_requests_total", {"status": status})
        for status in ("400", "413", "415")
    }
    assert counts == {"400": 1, "413": 1, "415": 1}


@pytest.mark.parametrize("protocol", TEXTS)
async def test_text_that_is_not_utf_8_gets_a_415(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str
) -> None:
    form = sample(protocol, [applicant])
    for charset in ("utf-16", '"ISO-8859-1"', "latin1", "", "us-ascii", "\u00ff"):
        headers = {b"Content-Type": f"{form.media_type}; charset={charset}".encode("latin-1")}
        found = await client.post(form.path, content=form.body, headers=headers)
        assert found.status_code == 415, charset
        assert "allowed: utf-8" in found.json()["detail"]
    for charset in ("utf-8", "UTF-8", '"utf-8"', "utf8; boundary=x"):
        headers = {b"Content-Type": f"{form.media_type};x=y; Charset={charset}".encode()}
        assert (await client.post(form.path, content=form.body, headers=headers)).status_code == 200


@pytest.mark.parametrize("protocol", ["arrow-stream", "parquet", "binary-tensors"])
async def test_the_charset_of_bytes_means_nothing(
    client: httpx.AsyncClient, applicant: dict[str, Any], protocol: str
) -> None:
    form = sample(protocol, [applicant])
    headers = {**form.headers, "Content-Type": f"{form.media_type}; charset=binary"}
    assert (await client.post(form.path, content=form.body, headers=headers)).status_code == 200


async def test_requests_without_a_body_may_name_any_coding(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/model", headers={"Content-Encoding": "br"})).status_code == 200


def inflate(coding: str, chunks: list[bytes]) -> bytes:
    inflater = Inflater(coding)
    pieces = [piece for chunk in chunks for piece in inflater.inflate(chunk)]
    inflater.finish()
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize(("coding", "encode"), ALL, ids=ALL_IDS)
@given(data=st.binary(max_size=200) | st.integers(1, 200_000).map(bytes), cut=st.integers(1, 40))
def test_chunks_of_any_size_hold_the_same(coding: str, encode: Callable[[bytes], bytes], data: bytes, cut: int) -> None:
    whole = encode(data)
    assert inflate(coding, [whole[at : at + cut] for at in range(0, len(whole), cut)]) == data


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
@pytest.mark.parametrize(("coding", "encode"), ALL, ids=ALL_IDS)
def test_what_a_decoder_holds_back_at_the_end_of_a_piece_is_not_lost(
    coding: str, encode: Callable[[bytes], bytes], size: int
) -> None:
    assert inflate(coding, [encode(bytes(size))]) == bytes(size)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_follow_each_other_up_to_a_limit(coding: str) -> None:
    member, empty = ENCODERS[coding](b"ab"), ENCODERS[coding](b"")
    assert inflate(coding, [member * 3]) == b"ababab"
    assert inflate(coding, [member, empty, member]) == b"abab"
    assert inflate(coding, [empty * MAX_MEMBERS]) == b""
    with pytest.raises(Problem, match=f"more than {MAX_MEMBERS} members") as caught:
        inflate(coding, [empty * (MAX_MEMBERS + 1)])
    assert caught.value.status == 400


@pytest.mark.parametrize("encode", [zlib.compress, raw_deflate])
def test_deflate_has_one_member(encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Problem, match="bytes follow its end"):
        inflate("deflate", [encode(b"a") * 2])


def test_an_empty_body_holds_nothing() -> None:
    assert [inflate(coding, [b""]) for coding in ENCODERS] == [b""] * len(ENCODERS)


def test_a_zstd_window_beyond_what_the_standard_requires_is_refused() -> None:
    def encode(window_log: int) -> bytes:
        options = {int(zstd.CompressionParameter.window_log): window_log}
        encoder = zstd.ZstdCompressor(options=options)
        return encoder.compress(bytes(100)) + encoder.flush()

    assert inflate("zstd", [encode(23)]) == bytes(100)
    with pytest.raises(Problem, match="not valid zstd"):
        inflate("zstd", [encode(24)])


@given(st.binary(max_size=100), st.sampled_from(list(ENCODERS)))
def test_no_bytes_are_an_internal_error(data: bytes, coding: str) -> None:
    try:
        inflate(coding, [data])
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017 - both outcomes are fine


@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"gzip", b"identity", b"zstd,", b"br"]), max_size=4))
def test_any_header_names_a_coding_or_none_or_is_refused(values: list[bytes]) -> None:
    try:
        found = coding_of([(b"content-encoding", value) for value in values])
    except Problem as problem:
        assert problem.status == 415  # noqa: PT017 - all outcomes are fine
    else:
        assert found in {None, *ENCODERS}


def chunks_of(messages: list[Message]) -> Receive:
    """Return a `receive` that returns messages in their order."""
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return receive


async def test_a_body_that_holds_nothing_ends_at_the_limit_too() -> None:
    # Empty stored blocks: valid deflate without an end.
    chunk = b"\x00\x00\x00\xff\xff" * 100
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True}] * 100
    receive = CodedBodies(10_000).inflated("deflate", chunks_of(messages))
    with pytest.raises(Problem, match="10000 bytes before it is inflated") as caught:
        await read_body(receive, 65536)
    assert caught.value.status == 413


async def test_a_client_that_goes_is_noticed_in_the_middle_of_a_coded_body() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": gzip.compress(b"a")[:10], "more_body": True}, {"type": "http.disconnect"},
    ]  # fmt: skip
    receive = CodedBodies(1000).inflated("gzip", chunks_of(messages))
    assert (await receive())["type"] == "http.disconnect"


async def test_other_tasks_run_between_the_pieces_of_a_body() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    body: Message = {"type": "http.request", "body": gzip.compress(bytes(20 * PIECE_BYTES))}
    await read_body(CodedBodies(10**6).inflated("gzip", chunks_of([body])), 10**7)
    other.cancel()
    assert turns >= 20


async def test_the_budget_counts_what_bodies_hold() -> None:
    may_answer, reading = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, 10**6)
        reading.set()
        await may_answer.wait()
        await send_answer(send, b"{}")

    transport = httpx.ASGITransport(Dispatcher(app, budget=BodyBudget(1000)))
    coded = {"content": gzip.compress(bytes(900)), "headers": {"Content-Encoding": "gzip"}}
    assert len(coded["content"]) < 100
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
        first = asyncio.create_task(http.post("/batch", **coded))  # type: ignore[arg-type]
        await reading.wait()
        second = await http.post("/batch", **coded)  # type: ignore[arg-type]
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        may_answer.set()
        assert (await first).status_code == 200
