"""The golden events become the golden records, whose hashes anyone can compute with SHA-256 and JSON alone."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest

from decisions.records.build import Link, records_of
from decisions.records.record import ChainedRecord, DecisionInputs, Record, chain_hash
from unit.decisions.golden import EVENT, LOG_ID, POD, RECORD, SEED, model_version, seeded_events

RECORDS: list[dict[str, Any]] = RECORD["records"]


def built() -> list[ChainedRecord]:
    return list(records_of(seeded_events(), POD, LOG_ID.bytes, Link()))


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def plain(value: object) -> object:
    """Return a value with lists for tuples."""
    return json.loads(json.dumps(value))


def rows(column: bytes, kind: str, count: int) -> Any:
    return np.frombuffer(column, kind).reshape(count, -1).tolist()


def test_the_packed_events_mean_what_the_golden_file_says() -> None:
    assert len(seeded_events()) == len(EVENT["events"])
    for seeded, expected in zip(seeded_events(), EVENT["events"], strict=True):
        event = seeded.event
        for name in ("endpoint", "version"):
            assert getattr(event, name) == expected[name], name
        for name in ("request_id", "role", "client", "applicant_ids", "reasons"):
            assert plain(getattr(event, name)) == expected[name], name
        latencies = (
            expected["latency"] if isinstance(expected["latency"], list) else [expected["latency"]] * event.count
        )
        assert list(event.latencies) == latencies
        ids = expected["ids"]
        assert [str(UUID(bytes=id_)) for id_ in event.row_ids][: 1 if isinstance(ids, str) else None] == (
            [ids] if isinstance(ids, str) else ids
        )
        assert event.rows == (None if expected["rows"] is None else np.array(expected["rows"], "<i4").tobytes())
        assert rows(event.categorical, "<i8", event.count) == expected["categorical"]
        numbers = np.array(expected["numeric"], float).astype("<f4")
        assert np.array_equal(np.frombuffer(event.numeric, "<f4").reshape(numbers.shape), numbers, equal_nan=True)
        assert event.probability == np.array(expected["probability"], "<f4").tobytes()
        assert event.points == np.array(expected["points"], "<i4").tobytes()
        assert list(map(bool, event.declined)) == expected["declined"]


def test_the_records_are_the_golden_ones() -> None:
    for chained, expected in zip(built(), RECORDS, strict=True):
        columns = {name: expected[name] for name in Record.__struct_fields__}
        assert msgspec.structs.asdict(chained.record) == columns
        assert chained.record.document().decode() == expected["document"]
        assert (chained.previous_hash.hex(), chained.hash.hex()) == (expected["previous_hash"], expected["hash"])
        inputs = expected["inputs"]
        salt = bytes.fromhex(inputs["salt"])
        assert chained.inputs == DecisionInputs(inputs["applicant_id"], salt, inputs["inputs"])
        assert chained.inputs.document().decode() == inputs["document"]


def test_the_hashes_follow_from_the_columns_by_json_and_sha256_alone() -> None:
    previous = bytes(32)
    for record in RECORDS:
        inputs = record["inputs"]
        assert sha256(SEED + UUID(record["id"]).bytes).hexdigest()[:32] == inputs["salt"]
        document = compact({"applicant_id": inputs["applicant_id"], "inputs": json.loads(inputs["inputs"])})
        assert sha256(bytes.fromhex(inputs["salt"]) + document.encode()).hexdigest() == record["inputs_hash"]
        columns = compact([record[name] for name in Record.__struct_fields__])
        assert record["previous_hash"] == previous.hex()
        previous = sha256(previous + columns.encode()).digest()
        assert record["hash"] == previous.hex()


def test_a_model_versions_id_follows_from_its_contents() -> None:
    version, expected = model_version(), RECORD["model_version"]
    content = [version.name, version.version, dict(sorted(version.digests.items())),
               sha256(version.contract).hexdigest()]  # fmt: skip
    digest = bytearray(sha256(compact(content).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    assert str(version.id) == expected["id"] == str(UUID(bytes=bytes(digest)))
    assert version.id.version == 8


@pytest.mark.parametrize("name", sorted(set(Record.__struct_fields__) - {"role", "decision"}))
def test_a_change_of_any_column_changes_the_hash(name: str) -> None:
    chained = built()[1]
    value = getattr(chained.record, name)
    other = [*(value or []), "R09"] if name == "reasons" else f"{value}0" if isinstance(value, str) else value + 1
    changed = msgspec.structs.replace(chained.record, **{name: other})
    assert chain_hash(chained.previous_hash, chained.record) == chained.hash
    assert chain_hash(chained.previous_hash, changed) != chained.hash
