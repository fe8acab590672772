"""Batches: every format scores the same rows the same, invalid rows do not affect others, order is kept."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorer.app import create_app
from scorer.applications.arrow import TableCodec
from scorer.applications.rows import MAX_ROWS, Column
from scorer.metrics import Metrics
from scorer.model.bundle import Model, ModelSlot, load_model
from scorer.model.identity import Identity
from scorer.problems import Problem
from scorer.settings import Settings
from trainer.data.synthetic import generate

NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
BATCH = "/v1/score/batch"


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Model:
    return load_model(model_folder, Identity("credit-risk", "7", "run", {}, {}))


@pytest.fixture(scope="module")
def loans(model: Model) -> pd.DataFrame:
    return generate(300, seed=3)[[feature.name for feature in model.contract.features]]


@pytest.fixture(scope="module")
def expected(model: Model, loans: pd.DataFrame) -> list[float]:
    rows = [model.decoder.decode(json.dumps(row).encode()) for row in loans.to_dict("records")]
    return [float(model.network.score(*row)[0]) for row in rows]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(model: Model, metrics: Metrics) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(pod_name="pod-1"), ModelSlot(model), metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://scoring") as http:
        yield http


def close(answered: list[Any], expected: list[float]) -> None:
    np.testing.assert_allclose(np.array(answered, dtype=np.float64), expected, atol=1e-6)


def lines_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def as_arrow(loans: pd.DataFrame, kind: str, *, dictionaries: bool = False) -> bytes:
    table, buffer = pa.Table.from_pandas(loans, preserve_index=False), io.BytesIO()
    if dictionaries:
        words = [not pa.types.is_floating(t) and not pa.types.is_integer(t) for t in table.schema.types]
        columns = [c.dictionary_encode() if word else c for c, word in zip(table.columns, words, strict=True)]
        table = pa.table(dict(zip(table.column_names, columns, strict=True)))
    if kind == PARQUET:
        pq.write_table(table, buffer)
    else:
        new = pa.ipc.new_file if kind == ARROW_FILE else pa.ipc.new_stream
        with new(buffer, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    return buffer.getvalue()


def from_arrow(body: bytes, kind: str) -> dict[str, list[Any]]:
    if kind == PARQUET:
        return dict(pq.read_table(io.BytesIO(body)).to_pydict())
    reader = pa.ipc.open_file(body) if kind == ARROW_FILE else pa.ipc.open_stream(body)
    return dict(reader.read_all().to_pydict())


async def test_records_are_answered_by_row(
    client: httpx.AsyncClient, loans: pd.DataFrame, expected: list[float]
) -> None:
    answer = (await client.post(BATCH, json=loans.to_dict("records"))).json()
    assert answer["model"] == {"name": "credit-risk", "version": "7"}
    assert answer["served_by"] == "pod-1"
    assert [result["row"] for result in answer["results"]] == list(range(300))
    close([result["probability_of_default"] for result in answer["results"]], expected)


async def test_a_row_of_a_batch_gets_the_single_endpoints_answer(
    client: httpx.AsyncClient, loans: pd.DataFrame
) -> None:
    records = loans.head(20).to_dict("records")
    batch = (await client.post(BATCH, json=records)).json()["results"]
    for record, result in zip(records, batch, strict=True):
        single = (await client.post("/v1/score", json=record)).json()
        assert (result["score_points"], result["decision"]) == (single["score_points"], single["decision"])


async def test_columns_are_answered_by_column(
    client: httpx.AsyncClient, loans: pd.DataFrame, expected: list[float]
) -> None:
    answer = (await client.post(BATCH, json=loans.to_dict("list"))).json()
    close(answer["probability_of_default"], expected)
    assert set(answer["decision"]) == {"approve", "decline"}
    assert answer["errors"] == []


async def test_lines_are_answered_by_line(
    client: httpx.AsyncClient, loans: pd.DataFrame, expected: list[float]
) -> None:
    body = "\n".join(json.dumps(row) for row in loans.to_dict("records")) + "\n\n"
    answer = await client.post(BATCH, content=body, headers={"Content-Type": NDJSON})
    assert answer.headers["content-type"] == NDJSON
    assert [line["row"] for line in lines_of(answer)] == list(range(300))
    close([line["probability_of_default"] for line in lines_of(answer)], expected)


@pytest.mark.parametrize("dictionaries", [False, True])
@pytest.mark.parametrize("kind", [ARROW_STREAM, ARROW_FILE, PARQUET])
async def test_tables_are_answered_by_tables(
    client: httpx.AsyncClient, loans: pd.DataFrame, expected: list[float], kind: str, dictionaries: bool
) -> None:
    body = as_arrow(loans, kind, dictionaries=dictionaries)
    answer = await client.post(BATCH, content=body, headers={"Content-Type": kind})
    assert answer.headers["content-type"] == kind
    table = from_arrow(answer.content, kind)
    close(table["probability_of_default"], expected)
    assert table["problem"] == [None] * 300


@pytest.mark.parametrize("kind", [ARROW_STREAM, ARROW_FILE, PARQUET])
async def test_an_empty_table_is_answered_with_an_empty_table(
    client: httpx.AsyncClient, loans: pd.DataFrame, kind: str
) -> None:
    """pyarrow writes one without a single batch of rows."""
    answer = await client.post(BATCH, content=as_arrow(loans.head(0), kind), headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    assert from_arrow(answer.content, kind)["probability_of_default"] == []


async def test_a_table_that_takes_long_to_read_delays_no_other_batch(
    client: httpx.AsyncClient, loans: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrupt one can end the sandbox, and a new one takes half a second to start."""
    read, may_read = TableCodec.read, threading.Event()

    def read_late(*arguments: Any) -> dict[str, Column]:
        may_read.wait(30)
        return read(*arguments)

    monkeypatch.setattr(TableCodec, "read", read_late)
    headers = {"Content-Type": ARROW_STREAM}
    table = asyncio.create_task(client.post(BATCH, content=as_arrow(loans.head(5), ARROW_STREAM), headers=headers))
    try:
        answer = await asyncio.wait_for(client.post(BATCH, json=loans.head(5).to_dict("records")), 10)
        assert answer.status_code == 200
        assert not table.done()
    finally:
        may_read.set()
    assert (await table).status_code == 200


def with_invalid_rows(loans: pd.DataFrame) -> pd.DataFrame:
    """Rows 1, 3 and 4 of five are invalid."""
    wrong = loans.head(5).copy()
    wrong["credit_score"] = wrong["credit_score"].astype(float)
    wrong.loc[1, "credit_score"] = 9000.0
    wrong.loc[3, "loan_purpose"] = "Yacht"
    wrong.loc[4, "annual_income"] = np.nan
    return wrong


def as_records(loans: pd.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(row.to_json()) for _, row in loans.iterrows()]


async def test_invalid_records_do_not_affect_the_others(
    client: httpx.AsyncClient, loans: pd.DataFrame, expected: list[float], metrics: Metrics
) -> None:
    results = (await client.post(BATCH, json=as_records(with_invalid_rows(loans)))).json()["results"]
    assert ["problem" in result for result in results] == [False, True, False, True, True]
    close([results[0]["probability_of_default"], results[2]["probability_of_default"]], [expected[0], expected[2]])
    assert results[1]["problem"]["errors"][0] == {
        "field": "credit_score", "problem": "is 9000.0, out of range", "allowed": "a number from 300 to 850 points",
    }  # fmt: skip
    assert results[4]["problem"]["errors"][0]["field"] == "annual_income"
    counted = metrics.registry.get_sample_value
    assert counted("scorer_rows_total", {"endpoint": "batch", "outcome": "scored"}) == 2
    assert counted("scorer_rows_total", {"endpoint": "batch", "outcome": "refused"}) == 3
    assert counted("scorer_probability_of_default_count") == 2


async def test_invalid_rows_of_columns_are_null_and_explained(client: httpx.AsyncClient, loans: pd.DataFrame) -> None:
    columns = json.loads(with_invalid_rows(loans).to_json(orient="split"))
    body = {name: [row[i] for row in columns["data"]] for i, name in enumerate(columns["columns"])}
    answer = (await client.post(BATCH, json=body)).json()
    assert [value is None for value in answer["probability_of_default"]] == [False, True, False, True, True]
    assert [error["row"] for error in answer["errors"]] == [1, 3, 4]


async def test_invalid_lines_do_not_end_the_stream(client: httpx.AsyncClient, loans: pd.DataFrame) -> None:
    body = b"\n".join([*(json.dumps(row).encode() for row in as_records(with_invalid_rows(loans))), b"{nonsense"])
    answer = await client.post(BATCH, content=body, headers={"Content-Type": NDJSON})
    assert ["problem" in line for line in lines_of(answer)] == [False, True, False, True, True, True]


@pytest.mark.parametrize("kind", [ARROW_STREAM, PARQUET])
async def test_invalid_rows_of_tables_are_null_and_explained(
    client: httpx.AsyncClient, loans: pd.DataFrame, kind: str
) -> None:
    answer = await client.post(BATCH, content=as_arrow(with_invalid_rows(loans), kind), headers={"Content-Type": kind})
    table = from_arrow(answer.content, kind)
    assert [value is None for value in table["score_points"]] == [False, True, False, True, True]
    assert "Yacht" in table["problem"][3]


async def test_csv_is_answered_as_csv(client: httpx.AsyncClient, loans: pd.DataFrame, expected: list[float]) -> None:
    answer = await post_csv(client, loans.assign(applicant_id="a,b"))
    assert answer.headers["content-type"] == CSV
    found = pd.read_csv(io.BytesIO(answer.content))
    # Some of the generated loans are outside the range seen in training.
    assert list(found) == ["probability_of_default", "score_points", "decision", "problem", "warnings"]
    close(found["probability_of_default"].tolist(), expected)
    assert set(found["decision"]) <= {"approve", "decline"}
    assert found["problem"].isna().all()


async def test_invalid_rows_of_csv_are_empty_and_explained(client: httpx.AsyncClient, loans: pd.DataFrame) -> None:
    found = pd.read_csv(io.BytesIO((await post_csv(client, with_invalid_rows(loans))).content))
    assert found["score_points"].isna().tolist() == [False, True, False, True, True]
    assert json.loads(found["problem"][3])["errors"][0]["field"] == "loan_purpose"


async def test_a_csv_with_invalid_columns_is_refused_as_a_whole(client: httpx.AsyncClient, loans: pd.DataFrame) -> None:
    for columns, status, detail in [
        (loans.assign(other=1), 422, "invalid columns: other"),
        (loans.drop(columns="gender"), 422, "invalid columns: gender"),
        (pd.concat([loans] * 40), 413, "12000 rows"),
    ]:
        answer = await post_csv(client, columns)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert detail in answer.json()["detail"]


async def post_csv(client: httpx.AsyncClient, rows: pd.DataFrame) -> httpx.Response:
    body = rows.to_csv(index=False).encode()
    return await client.post(BATCH, content=body, headers={"Content-Type": CSV})


async def test_lines_are_answered_while_others_are_still_arriving(client: httpx.AsyncClient, model: Model) -> None:
    """Over plain ASGI, because httpx's transport waits for the whole answer."""
    app = create_app(Settings(), ModelSlot(model), Metrics())
    line = json.dumps(model.contract.reference_applicant).encode() + b"\n"
    seen: list[bytes] = []
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        # The second line is sent only when the first one's answer is here.
        while asked == 2 and not any(seen):
            await asyncio.sleep(0.01)
        return {"type": "http.request", "body": line, "more_body": asked < 2}

    async def send(message: Any) -> None:
        seen.append(message.get("body", b""))

    headers = [(b"content-type", NDJSON.encode())]
    scope = {"type": "http", "method": "POST", "path": BATCH, "headers": headers, "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    assert len(b"".join(seen).splitlines()) == 2


@pytest.mark.parametrize(
    ("content_type", "body", "status", "detail"),
    [
        ("text/xml", b"<a/>", 415, "allowed: application/json"),
        ("text/csv", b"", 422, "the first line must be the header"),
        ("text/csv", b"\xff\xfe", 400, "not CSV in UTF-8"),
        ("application/json", b"[{", 400, "not valid JSON"),
        ("application/json", b"[" * 100_000, 400, "not valid JSON"),
        ("application/json", b"7", 422, "an array of applications"),
        ("application/json", b'{"gender": 1}', 422, "one array per field"),
        ("application/json", b'{"gender": []}', 422, "invalid columns"),
        ("application/json", b"[" + b",".join([b"{}"] * (MAX_ROWS + 1)) + b"]", 413, "10001 rows"),
        (PARQUET, b"PAR1" + b"\xff" * 100 + b"PAR1", 400, "is not valid application/vnd.apache.parquet"),
        (PARQUET, b"", 400, "not a Parquet file"),
        (ARROW_STREAM, b"\xff" * 100, 400, "is not valid application/vnd.apache.arrow.stream"),
    ],
)
async def test_a_body_that_is_invalid_as_a_whole_is_refused(
    client: httpx.AsyncClient, content_type: str, body: bytes, status: int, detail: str
) -> None:
    answer = await client.post(BATCH, content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(("kind", "compression"), [(PARQUET, "zstd"), (ARROW_STREAM, "zstd"), (ARROW_FILE, None)])
async def test_a_small_table_with_huge_strings_is_refused_and_harms_no_other_request(
    client: httpx.AsyncClient, loans: pd.DataFrame, kind: str, compression: Literal["zstd"] | None
) -> None:
    """10,000 times one string of five million letters is 50 GB: reading it aborts the process."""
    endless = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * 5_000_000])
    table = pa.table({"gender": endless, "annual_income": [1.0] * 10_000})
    buffer = io.BytesIO()
    if kind == PARQUET:
        pq.write_table(table, buffer, compression=compression or "none", write_statistics=False)
    else:
        new = pa.ipc.new_stream if kind == ARROW_STREAM else pa.ipc.new_file
        with new(buffer, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
            writer.write_table(table)
    if compression:
        assert len(buffer.getvalue()) < 10_000
    answer = await client.post(BATCH, content=buffer.getvalue(), headers={"Content-Type": kind})
    assert answer.status_code == 422
    assert "128 MiB" in answer.json()["detail"]
    after = await client.post(BATCH, content=as_arrow(loans, kind), headers={"Content-Type": kind})
    assert after.status_code == 200


async def test_a_table_with_too_many_rows_is_refused(client: httpx.AsyncClient, loans: pd.DataFrame) -> None:
    large = pd.concat([loans] * 40, ignore_index=True)
    answer = await client.post(BATCH, content=as_arrow(large, PARQUET), headers={"Content-Type": PARQUET})
    assert answer.status_code == 413


async def test_a_stream_with_too_many_lines_ends_with_the_problem(client: httpx.AsyncClient) -> None:
    answer = await client.post(BATCH, content=b"{}\n" * (MAX_ROWS + 1), headers={"Content-Type": NDJSON})
    assert lines_of(answer)[-1]["problem"]["status"] == 413


async def test_an_empty_batch_has_no_results(client: httpx.AsyncClient) -> None:
    assert (await client.post(BATCH, json=[])).json()["results"] == []
    assert (await client.post(BATCH, content=b"", headers={"Content-Type": NDJSON})).content == b""


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(10**400), st.lists(st.none())
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_row_of_any_columns_is_accepted_or_refused_as_it_would_be_alone(model: Model, data: st.DataObject) -> None:
    applicant = model.contract.reference_applicant
    count = data.draw(st.integers(1, 4))
    rows = [
        {name: data.draw(values) if data.draw(st.booleans()) else fine for name, fine in applicant.items()}
        for _ in range(count)
    ]
    scored = model.tables.from_columns({name: [row[name] for row in rows] for name in applicant})
    alone = model.tables.from_records(rows)
    assert set(scored.problems) == set(alone.problems)
    for index, row in enumerate(rows):
        assert (index in scored.problems) == _refused(model, row)


def _refused(model: Model, row: dict[str, Any]) -> bool:
    try:
        model.decoder.decode(json.dumps(row).encode())
    except Problem:
        return True
    return False
