"""Where a version's files come from, and what is said if they cannot be had or are others."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from decisions.archive.artifacts import artifact_key
from scorer.model.bundle import Model
from unit.decisions.replay.chain import APPLICANT, Chain, ask_again, load_version, replayed, write_version
from unit.decisions.replay.registry import MlflowServer
from unit.decisions.service.site import key_of

NETWORK = ("7", "model.onnx")


def network_key(version: Model) -> str:
    return artifact_key(version.identity.digests["model.onnx"])


def put(chain: Chain, key: str, content: bytes) -> None:
    """Write an object over whatever there is."""
    chain.bucket.client.put_object(Bucket=chain.bucket.name, Key=f"decisions/{key}", Body=content)


async def test_a_version_that_was_deleted_from_the_registry_replays_from_the_archive(
    chain: Chain, version: Model, registry: MlflowServer
) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    chain.archive()
    registry.files.clear()
    found = await replayed(await chain.serve(), decision)
    assert (found["same"], found["artifacts"]) == (True, {"model.onnx": "archive", "contract.json": "database"})
    # The archive is asked first, and once.
    registry.asked.clear()
    await replayed(await chain.serve(), decision)
    assert registry.asked == []


async def test_files_are_fetched_once_and_again_if_they_were_damaged_on_disk(
    chain: Chain, version: Model, registry: MlflowServer
) -> None:
    first, second = await chain.decide(version, [APPLICANT, APPLICANT])
    service = await chain.serve()
    for decision in (first, second):
        assert (await replayed(service, decision))["artifacts"]["model.onnx"] == "registry"
    downloads = [path for path in registry.asked if path.endswith("model.onnx")]
    assert len(downloads) == 1
    (file,) = Path(service.service.replays._folder.name).glob("*/model.onnx")
    file.write_bytes(b"damaged")
    assert (await replayed(service, first))["same"] is True
    assert len([path for path in registry.asked if path.endswith("model.onnx")]) == 2


async def test_more_versions_than_are_kept_take_turns(chain: Chain, version: Model, tmp_path: Path) -> None:
    (old,) = await chain.decide(version, [APPLICANT])
    chain.archive()
    (tmp_path / "another").mkdir()
    folder = write_version(tmp_path / "another")
    contract = (folder / "contract.json").read_text().replace('"decision_threshold": 0.5', '"decision_threshold": 0.4')
    (folder / "contract.json").write_text(contract)
    (new,) = await chain.decide(load_version(folder, "8"), [APPLICANT])
    service = await chain.serve(replay_versions=1)
    for decision, number in ((old, "7"), (new, "8"), (old, "7"), (new, "8")):
        found = await replayed(service, decision)
        assert (found["same"], found["model"]["version"]) == (True, number)
        assert len(list(Path(service.service.replays._folder.name).iterdir())) == 1


async def test_what_cannot_be_had_is_424_and_the_places_that_were_tried_are_named(
    chain: Chain, version: Model, registry: MlflowServer
) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    registry.files.clear()
    digest = version.identity.digests["model.onnx"]
    answer = await ask_again(await chain.serve(), decision)
    assert answer.status_code == 424
    assert answer.json()["detail"] == (
        f"model.onnx of version 7 of credit-risk, SHA-256 {digest}, cannot be had; tried: archive: not there; "
        "registry: not there"
    )
    answer = await ask_again(await chain.serve(s3_bucket=None, mlflow_url=None), decision)
    assert (answer.status_code, "no place, because none is configured" in answer.json()["detail"]) == (424, True)


@pytest.mark.parametrize("failing", [500, 503])
async def test_a_registry_that_fails_may_have_it_later(
    chain: Chain, version: Model, registry: MlflowServer, failing: int
) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    registry.failing = failing
    service = await chain.serve()
    answer = await ask_again(service, decision)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert f"registry: {registry.url}/api/2.0/mlflow/model-versions/get-download-uri answered" in answer.text
    registry.failing = None
    assert (await replayed(service, decision))["same"] is True


async def test_a_store_that_does_not_answer_is_503_unless_the_registry_has_it(
    chain: Chain, version: Model, registry: MlflowServer
) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve(s3_endpoint_url="http://127.0.0.1:1")
    assert (await replayed(service, decision))["artifacts"]["model.onnx"] == "registry"
    registry.files.clear()
    service = await chain.serve(s3_endpoint_url="http://127.0.0.1:1")
    answer = await ask_again(service, decision)
    assert (answer.status_code, "archive: s3://" in answer.text) == (503, True)
    # Neither is there an answer from an MLflow server that has no artifacts of its own.
    registry.files[NETWORK], registry.source = b"", "s3://mlflow/{version}"
    answer = await ask_again(service, decision)
    assert (answer.status_code, "run the MLflow server with --serve-artifacts" in answer.text) == (503, True)


async def test_files_with_other_digests_are_never_used(chain: Chain, version: Model, registry: MlflowServer) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    right = registry.files[NETWORK]
    put(chain, network_key(version), right[:-1] + bytes([right[-1] ^ 1]))
    # The registry's is the right one.
    assert (await replayed(await chain.serve(), decision))["artifacts"]["model.onnx"] == "registry"
    registry.files[NETWORK] = right + b"\n"
    answer = await ask_again(await chain.serve(), decision)
    assert answer.status_code == 502
    assert answer.json()["detail"].count("there with SHA-256") == 2
    put(chain, network_key(version), right)
    assert (await replayed(await chain.serve(), decision))["artifacts"]["model.onnx"] == "archive"


async def test_a_changed_row_of_the_version_is_502_and_a_changed_digest_too(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve()
    chain.database.sql("UPDATE model_versions SET version = '6'")
    answer = await ask_again(service, decision)
    assert (answer.status_code, "the database's row of version 6 of model credit-risk was changed" in answer.text) == (
        502, True
    )  # fmt: skip


async def test_what_is_not_there_or_was_forgotten_cannot_be_replayed(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [{**APPLICANT, "applicant_id": "a-1"}])
    service = await chain.serve()
    answer = await ask_again(service, UUID(int=1))
    assert (answer.status_code, "there is no decision" in answer.json()["detail"]) == (404, True)
    assert (await service.http.post("/v1/decisions/x/replay", headers=key_of("validator"))).status_code == 422
    forgotten = await service.http.delete("/v1/applicants/a-1/inputs", headers=key_of("privacy"))
    assert forgotten.json() == {"decisions": 1}
    answer = await ask_again(service, decision)
    assert (answer.status_code, answer.json()["detail"]) == (
        409, f"the inputs of decision {decision} were deleted on request"
    )  # fmt: skip


async def test_inputs_that_the_version_cannot_take_are_424_with_the_reason(chain: Chain, version: Model) -> None:
    (decision,) = await chain.decide(version, [APPLICANT])
    service = await chain.serve()
    chain.database.sql("""UPDATE decision_inputs SET inputs = replace(inputs::text, '"Car"', '"Yacht"')::json""")
    answer = await ask_again(service, decision)
    assert answer.status_code == 424
    assert "the input purpose is 'Yacht'; allowed: one of Car, Home, None" in answer.json()["detail"]
    assert "the inputs are not those that were hashed when the decision was made" in answer.json()["detail"]
    for document in ("[]", '{"income": true}', '"x"', "null"):
        chain.database.sql("UPDATE decision_inputs SET inputs = %s", document)
        answer = await ask_again(service, decision)
        assert (answer.status_code, "cannot be scored again" in answer.text) == (424, True), document


async def test_a_network_that_is_too_large_is_not_loaded(chain: Chain, registry: MlflowServer, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    write_version(folder)
    # Anything may follow the last field of a protocol buffer's message if it is a field, too.
    network = (folder / "model.onnx").read_bytes()
    padding = b"\x12\x80\x80\x80\x01" + b"x" * (1 << 21)
    (folder / "model.onnx").write_bytes(network + padding)
    large = load_version(folder, "9")
    (decision,) = await chain.decide(large, [APPLICANT])
    registry.files["9", "model.onnx"] = network + padding
    service = await chain.serve(replay_model_mebibytes=1)
    answer = await ask_again(service, decision)
    assert (answer.status_code, "has more than 1048576 bytes" in answer.text) == (424, True)
    chain.archive()
    answer = await ask_again(service, decision)
    assert (answer.status_code, "archive: larger than 1048576 bytes" in answer.text) == (424, True)
