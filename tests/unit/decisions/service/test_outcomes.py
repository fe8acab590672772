"""POST /v1/outcomes: every format, what is rejected and why, repetitions, corrections, and two loads at once."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decisions.outcomes.formats import CSV, JSON, NDJSON, PARQUET
from unit.decisions.service.site import Running, Site

JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)
FIELDS = ("decision_id", "applicant_id", "date", "outcome", "observed_at")


def encoded(rows: list[dict[str, str]], kind: str) -> bytes:
    if kind == JSON:
        return json.dumps(rows).encode()
    if kind == NDJSON:
        return "\n\n".join(json.dumps(row) for row in rows).encode()
    if kind == CSV:
        lines = [";".join(FIELDS), *(";".join(row.get(name, "") for name in FIELDS) for row in rows)]
        return "\ufeff".encode() + "\r\n".join(lines).encode()
    sink = io.BytesIO()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in FIELDS}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("kind", [JSON, NDJSON, CSV, PARQUET])
async def test_good_rows_are_kept_and_the_others_told(site: Site, running: Running, kind: str) -> None:
    first, second = site.decide(JANUARY), site.decide(JANUARY, applicant_id="a-2")
    rows = [
        {"decision_id": str(first), "outcome": "repaid", "observed_at": "2026-05-01"},
        {"decision_id": str(UUID(int=5)), "outcome": "repaid", "observed_at": "2026-05-01"},
        {
            "applicant_id": "a-2",
            "date": "2026-01-10",
            "outcome": "defaulted",
            "observed_at": "2026-05-01T10:00:00+02:00",
        },
        {"decision_id": str(first), "outcome": "paid", "observed_at": "2026-05-01"},
    ]
    answer = (await running.report(encoded(rows, kind), kind)).json()
    assert (answer["added"], answer["known"], answer["rejected"]) == (2, 0, 2)
    assert answer["rejected_rows"] == [
        {"row": 2, "reason": f"there is no decision {UUID(int=5)}"},
        {"row": 4, "reason": "outcome is 'paid'; allowed: repaid, defaulted, open"},
    ]
    assert site.sql("SELECT decision_id, outcome FROM current_outcomes ORDER BY 1") == [
        (first, "repaid"), (second, "defaulted")
    ]  # fmt: skip
    again = (await running.report(encoded(rows, kind), kind)).json()
    assert (again["added"], again["known"], again["rejected"]) == (0, 2, 2)


async def test_typed_columns_of_parquet_are_read(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY)
    sink = io.BytesIO()
    columns = {"decision_id": pa.array([wanted.bytes], pa.binary(16)), "outcome": ["open"],
               "observed_at": pa.array([datetime(2026, 5, 1)], pa.timestamp("ns"))}  # fmt: skip  # noqa: DTZ001
    pq.write_table(pa.table(columns), sink)
    assert (await running.report(sink.getvalue(), PARQUET)).json()["added"] == 1
    sink = io.BytesIO()
    pq.write_table(pa.table({"applicant_id": ["a-1"], "date": [date(2026, 1, 10)], "outcome": ["repaid"],
                             "observed_at": [date(2026, 6, 1)]}), sink)  # fmt: skip
    assert (await running.report(sink.getvalue(), PARQUET)).json()["added"] == 1


REJECTED = [
    ({"outcome": "open", "observed_at": "2026-05-01"}, "decision_id is missing, and so are applicant_id and date"),
    ({"applicant_id": "a-1", "outcome": "open", "observed_at": "2026-05-01"}, "date is missing"),
    ({"applicant_id": "a-1", "date": "10.1.2026", "outcome": "open", "observed_at": "2026-05-01"},
     "date is '10.1.2026'; allowed: the day of the application (UTC), 2026-01-31"),
    ({"applicant_id": "a-1", "date": "9999-12-31", "outcome": "open", "observed_at": "2026-05-01"},
     "date is in the future: 9999-12-31"),
    ({"applicant_id": "a-1", "date": "2026-01-11", "outcome": "open", "observed_at": "2026-05-01"},
     "the applicant has no decision on 2026-01-11 (UTC)"),
    ({"applicant_id": "twice", "date": "2026-01-10", "outcome": "open", "observed_at": "2026-05-01"},
     "the applicant has 2 decisions on 2026-01-10; give the decision_id"),
    ({"decision_id": "7", "outcome": "open", "observed_at": "2026-05-01"}, "decision_id is '7'; allowed: a UUID"),
    ({"decision_id": "GOOD", "applicant_id": "a-1", "outcome": "open", "observed_at": "2026-05-01"},
     "decision_id and applicant_id: give the decision_id alone, or applicant_id and date"),
    ({"decision_id": "GOOD", "outcome": "open"}, "observed_at is missing"),
    ({"decision_id": "GOOD", "outcome": "open", "observed_at": 5}, "observed_at is 5; allowed: text"),
    ({"decision_id": "GOOD", "outcome": "open", "observed_at": "2026-13-01"},
     "observed_at is '2026-13-01'; allowed: a date or time of ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z"),
    ({"decision_id": "GOOD", "outcome": "open", "observed_at": "2026-01-09T23:00:00Z"},
     "observed_at 2026-01-09T23:00:00+00:00 is before the decision at 2026-01-10T12:00:00+00:00"),
    ({"decision_id": "GOOD", "outcome": "open", "observed_at": "2062-05-01"},
     "observed_at is in the future: 2062-05-01T00:00:00+00:00"),
    ({"decision_id": "GOOD", "outcome": "open", "observed_at": "2026-05-01", "amount": 1},
     "unknown field 'amount'; allowed: decision_id, applicant_id, date, outcome, observed_at"),
    ({"applicant_id": "a\0", "date": "2026-01-10", "outcome": "open", "observed_at": "2026-05-01"},
     "applicant_id has a NUL character"),
    ({"decision_id": "SHADOW", "outcome": "open", "observed_at": "2026-05-01"},
     "the decision SHADOW is a shadow's: no client was answered with it"),
    (7, "the row is not an object"),
]  # fmt: skip


async def test_each_rejection_says_what_is_wrong_and_what_is_allowed(site: Site, running: Running) -> None:
    good, shadow = str(site.decide(JANUARY)), str(site.decide(JANUARY, role="shadow"))
    for _ in range(2):
        site.decide(JANUARY, applicant_id="twice")
    text = json.dumps([row for row, _ in REJECTED]).replace("GOOD", good).replace("SHADOW", shadow)
    answer = (await running.report(text)).json()
    assert (answer["added"], answer["rejected"]) == (0, len(REJECTED))
    reasons = [row["reason"].replace(shadow, "SHADOW") for row in answer["rejected_rows"]]
    assert reasons == [reason for _, reason in REJECTED]
    assert site.sql("SELECT count(*) FROM outcomes") == [(0,)]


async def test_an_applicant_s_shadow_decision_does_not_make_the_day_ambiguous(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY)
    site.decide(JANUARY, role="shadow")
    row = {"applicant_id": "a-1", "date": "2026-01-10", "outcome": "open", "observed_at": "2026-01-10"}
    assert (await running.report([row])).json()["added"] == 1
    assert site.sql("SELECT decision_id FROM outcomes") == [(wanted,)]


async def test_whatever_order_outcomes_arrive_in_the_same_one_is_current(site: Site, running: Running) -> None:
    wanted = str(site.decide(JANUARY))
    rows = [
        {"decision_id": wanted, "outcome": outcome, "observed_at": observed_at}
        for outcome, observed_at in [("defaulted", "2026-03-01"), ("repaid", "2026-04-01"), ("open", "2026-04-01")]
    ]
    for order in (rows, rows[::-1], rows[1:] + rows[:1]):
        site.sql("TRUNCATE outcomes")
        for row in order:
            await running.report([row])
        assert site.sql("SELECT outcome FROM current_outcomes") == [("repaid",)]
    assert site.sql("SELECT count(*) FROM outcomes") == [(3,)]


async def test_two_loads_of_the_same_rows_at_once_keep_each_row_once(site: Site, running: Running) -> None:
    ids = [str(site.decide(JANUARY)) for _ in range(20)]
    rows = [{"decision_id": ids[number % 20], "outcome": "open",
             "observed_at": (JANUARY + timedelta(minutes=number)).isoformat()} for number in range(12_000)]  # fmt: skip

    async def load(order: list[dict[str, str]]) -> Any:
        # One that has waited for another for too long on a busy machine is sent again, as clients do.
        while (answer := await running.report(order)).status_code == 503:
            assert answer.headers["Retry-After"]
        return answer.json()

    counted = await asyncio.gather(*(load(order) for order in (rows, rows[::-1], rows[6000:] + rows[:6000])))
    assert [answer["rejected"] for answer in counted] == [0, 0, 0]
    assert sum(answer["added"] for answer in counted) == 12_000
    assert sum(answer["known"] for answer in counted) == 24_000
    assert site.sql("SELECT count(*) FROM outcomes") == [(12_000,)]


REFUSED: list[tuple[Any, str, int, str]] = [
    (b"{", JSON, 400, "the body is not JSON"),
    (b"{}", JSON, 400, "the body must be an array of outcomes"),
    (b"[" * 100_000, JSON, 400, "the body is not JSON"),
    (b"a,b\n1,2\n", CSV, 400, "the first line must be the header"),
    (b"", CSV, 400, "it has nothing"),
    ("outcome,outcome\n".encode("utf-16"), CSV, 400, "UTF-16"),
    (b"outcome\n\xff\n", CSV, 400, "is not CSV in UTF-8"),
    (b'outcome\n"open\n', CSV, 400, "the body is not CSV"),
    (b"outcome,outcome\n", CSV, 400, "the column 'outcome' twice"),
    (b"x" * 70_000, NDJSON, 400, "line 1 is longer than 65536 bytes"),
    (b"PAR1nonsense", PARQUET, 400, "the file is not Parquet"),
    (b"PAR1" + b"\xff" * 200 + (200).to_bytes(4, "little") + b"PAR1", PARQUET, 400, "the file is not Parquet"),
    (b"\n".join([b"outcome", *[b"open"] * 100_001]), CSV, 413, "more than 100000 rows"),
]


@pytest.mark.parametrize(("body", "kind", "status", "words"), REFUSED)
async def test_bodies_that_are_no_outcomes_are_refused_in_words(
    running: Running, body: bytes, kind: str, status: int, words: str
) -> None:
    answer = await running.report(body, kind)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


async def test_nothing_of_a_refused_body_is_kept(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY)
    body = f'decision_id,outcome,observed_at\n{wanted},open,2026-05-01\n{wanted},"repaid'
    assert (await running.report(body, CSV)).status_code == 400
    assert site.sql("SELECT count(*) FROM outcomes") == [(0,)]


async def test_lines_and_rows_of_a_bad_form_are_rejected_alone(site: Site, running: Running) -> None:
    wanted = site.decide(JANUARY)
    good = json.dumps({"decision_id": str(wanted), "outcome": "open", "observed_at": "2026-05-01"})
    answer = (await running.report(f"{good}\n{{\n{good}", NDJSON)).json()
    assert (answer["added"], answer["known"], answer["rejected_rows"][0]["row"]) == (1, 1, 2)
    body = f"decision_id,outcome,observed_at\n{wanted},open\n{wanted},open,2026-05-01\n"
    answer = (await running.report(body, CSV)).json()
    assert answer["rejected_rows"] == [{"row": 1, "reason": "the row has 2 values; allowed: 3, as the header"}]
    assert answer["known"] == 1
