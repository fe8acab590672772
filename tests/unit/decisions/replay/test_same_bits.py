"""What was scored, in whatever protocol, is scored again to the same bits; whatever was changed since is told."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scorer.model.bundle import Model
from unit.decisions.replay.chain import APPLICANT, Chain, digest_of, load_version, replayed
from unit.scorer.protocols import PROTOCOLS, sample

SINGLE = [
    APPLICANT,
    {**APPLICANT, "home": 2, "region": False, "employer": 10.0},
    {**APPLICANT, "bureau_score": None, "debt_ratio": None, "purpose": None, "region": None},
    {**APPLICANT, "bureau_score": 999, "debt_ratio": -99.9, "purpose": "unknown"},
    {**APPLICANT, "purpose": "Yacht", "employer": "other"},
    {**APPLICANT, "income": 0, "debt_ratio": 1.9999999, "bureau_score": -0.0},
    {**APPLICANT, "income": 123456.789, "debt_ratio": 0.1, "bureau_score": 612.34567},
]


async def test_every_protocols_inputs_replay_to_the_same_bits(chain: Chain, version: Model) -> None:
    rows = [{**APPLICANT, "income": 20_000.1 * number} for number in range(1, 4)]
    async with chain.scoring(version) as http:
        for protocol in PROTOCOLS:
            form = sample(protocol, rows)
            headers = {"Content-Type": form.media_type, **form.headers}
            answer = await http.post(form.path, content=form.body, headers=headers)
            assert answer.status_code == 200, (protocol, answer.text)
        for row in SINGLE:
            for path in ("/v1/score", "/v1/score?reasons=8", "/v1/score/batch"):
                answer = await http.post(path, json=[row] if "batch" in path else row)
                assert answer.status_code == 200, (row, answer.text)
    endpoints = dict(chain.database.sql("SELECT endpoint, count(*) FROM decisions GROUP BY 1"))
    assert endpoints == {"score": 15, "batch": 25, "ndjson": 3, "invocations": 15, "open_inference": 6}
    service = await chain.serve()
    for decision in chain.ids():
        found = await replayed(service, decision)
        assert found["same"] is True, found
        assert found["recorded"] == found["recomputed"]
    counted = service.service.metrics.registry.get_sample_value("decisions_replays_total", {"result": "same"})
    assert counted == len(chain.ids()) == 64


async def test_the_answer_says_what_was_compared_with_what(chain: Chain, version: Model, version_folder: Path) -> None:
    (decision,) = await chain.decide(version, [{**APPLICANT, "purpose": "None"}], reasons=2)
    found = await replayed(await chain.serve(), decision)
    ((probability, points, reasons),) = chain.database.sql("SELECT probability, points, reasons FROM decisions")
    assert found["decision_id"] == str(decision)
    assert found["recorded"] == {
        "probability_of_default": probability, "probability_bits": struct.pack(">f", probability).hex(),
        "score_points": points, "decision": "decline", "grade": "subprime", "reasons": reasons,
    }  # fmt: skip
    assert len(reasons) == 2
    assert (found["same"], found["differences"], found["rows"]) == (True, [], 1)
    digests = {name: digest_of(version_folder / name) for name in ("model.onnx", "contract.json")}
    assert found["model"] == {"name": "credit-risk", "version": "7", "digests": digests}
    assert found["artifacts"] == {"model.onnx": "registry", "contract.json": "database"}
    assert found["runtime"]["onnxruntime"].count(".") == 2
    assert set(found["runtime"]) == {"scorer_sha256", "onnxruntime", "machine", "cpu", "cpu_features"}


def other_bits(probability: float, flipped: int) -> float:
    (bits,) = struct.unpack("<I", struct.pack("<f", probability))
    return float(struct.unpack("<f", struct.pack("<I", bits ^ flipped))[0])


async def test_a_stored_value_that_was_changed_is_found(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [{**APPLICANT, "purpose": "None"}])
    ((before,),) = chain.database.sql("SELECT to_jsonb(d) FROM decisions d")
    service = await chain.serve()
    changes: list[tuple[str, Any, str]] = [
        ("probability", other_bits(before["probability"], 1), "probability_of_default"),
        ("probability", other_bits(before["probability"], 1 << 12), "probability_of_default"),
        ("points", before["points"] + 1, "score_points"),
        ("decision", "approve", "decision"),
        ("grade", "B-", "grade"),
        ("grade", None, "grade"),
        ("reasons", before["reasons"][::-1], "reasons"),
        ("reasons", [*before["reasons"][:-1], "R9"], "reasons"),
        ("reasons", [], "reasons"),
        ("inputs_hash", bytes(32), "inputs"),
    ]
    for column, value, part in changes:
        chain.database.sql(f"UPDATE decisions SET {column} = %s", value)
        found = await replayed(service, decision)
        assert (found["same"], found["differences"]) == (False, [part]), column
        original = bytes.fromhex(before[column][2:]) if column == "inputs_hash" else before[column]
        chain.database.sql(f"UPDATE decisions SET {column} = %s", original)
    assert (await replayed(service, decision))["same"] is True
    different = service.service.metrics.registry.get_sample_value("decisions_replays_total", {"result": "different"})
    assert different == len(changes)


async def test_inputs_that_were_changed_are_found_even_if_they_score_the_same(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [{**APPLICANT, "debt_ratio": 1.5}])
    service = await chain.serve()
    # Beyond the range seen in training, which the network clamps to.
    await change_inputs(chain, decision, debt_ratio=1.6)
    found = await replayed(service, decision)
    assert (found["same"], found["differences"]) == (False, ["inputs"])
    await change_inputs(chain, decision, debt_ratio=0.2)
    found = await replayed(service, decision)
    assert {"inputs", "probability_of_default", "score_points"} <= set(found["differences"])
    assert found["recorded"]["probability_bits"] != found["recomputed"]["probability_bits"]


async def change_inputs(chain: Chain, decision: UUID, **values: Any) -> None:
    ((inputs,),) = chain.database.sql("SELECT inputs FROM decision_inputs WHERE id = %s", decision)
    # On several lines, which is the same JSON.
    document = json.dumps({**inputs, **values}, indent=1)
    chain.database.sql("UPDATE decision_inputs SET inputs = %s WHERE id = %s", document, decision)


async def test_points_are_computed_on_the_scale_of_the_settings(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    found = await replayed(await chain.serve(base_points=700), decision)
    assert found["differences"] == ["score_points"]
    assert found["recomputed"]["score_points"] == found["recorded"]["score_points"] + 100


@pytest.mark.parametrize("rows", [2, 40])
async def test_rows_of_a_batch_replay_one_by_one(chain: Chain, model_folder: Path, rows: int) -> None:
    model = load_trained(chain, model_folder)
    usual = dict(model.contract.reference_applicant)
    batch = [{**usual, "credit_score": 500 + number, "annual_income": 30_000.7 * number} for number in range(1, rows)]
    async with chain.scoring(model) as http:
        answer = await http.post("/v1/score/batch", json=[usual, *batch])
        assert answer.status_code == 200, answer.text
    service = await chain.serve()
    assert len(chain.ids()) == rows
    for decision in chain.ids()[:: max(1, rows // 8)]:
        assert (await replayed(service, decision))["same"] is True


def load_trained(chain: Chain, folder: Path) -> Model:
    """Return the trained model, whose files the archive gets."""
    model = load_version(folder, "8")
    for name, digest in model.identity.digests.items():
        chain.bucket.write_new(f"models/{digest}", (folder / name).read_bytes())
    return model
