"""From the archive's run over the service to someone who has nothing but the proof."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from creditrisk.__main__ import main
from creditrisk.proof import ProofError, check_proof
from decisions.archive.seals import load_seals
from decisions.errors import DifferenceError
from decisions.reading import proofs
from decisions.records import merkle
from decisions.settings import Permission, ServeSettings
from unit.decisions.archive.site import Site, noon
from unit.decisions.service.process import running_process
from unit.decisions.service.site import Running, start, stop


@pytest.fixture
def tiles_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (merkle, proofs):
        monkeypatch.setattr(module, "TILE_LEAVES", 4)


@pytest.fixture
def settings(site: Site, tmp_path: Path) -> ServeSettings:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "all").write_text(hashlib.sha256(b"k-all").hexdigest())
    permissions: dict[Permission, frozenset[str]] = {"decisions:read": frozenset({"all"})}
    return ServeSettings(database_url=site.database.url("service"), access_dir=keys, permissions=permissions)


@pytest.fixture
async def running(settings: ServeSettings) -> AsyncIterator[Running]:
    service = await start(settings)
    yield service
    await stop(service)


def sealed(site: Site) -> list[str]:
    """Write decisions of three logs, and seal them: 18 leaves, whose tiles begin in the middle of logs."""
    ids = [
        decision for number, count in ((1, 7), (2, 1), (3, 10)) for decision in site.log(number).add(noon(5, 10), count)
    ]
    site.archive(noon(5, 11))
    return ids


async def proof_of(site: Site, decision_id: str) -> dict[str, Any]:
    async with await psycopg.AsyncConnection.connect(site.database.url("service"), autocommit=True) as connection:
        found = await proofs.get_proof(connection, UUID(decision_id))
    assert found
    return found.model_dump(mode="json")


@pytest.mark.usefixtures("tiles_of_four")
async def test_each_decision_of_a_seal_has_a_proof(site: Site) -> None:
    ids = sealed(site)
    (stored,) = load_seals(site.bucket)
    for leaf, decision in enumerate(ids):
        proof = await proof_of(site, decision)
        assert proof["leaf"] == leaf
        shown = check_proof(proof, stored.document, stored.sha256)
        assert (shown["decision_id"], shown["root"]) == (decision, stored.seal.root)
        assert shown["inputs"] == "as they were scored"
    site.forget("a-1")
    assert check_proof(await proof_of(site, ids[0]))["inputs"] == "forgotten"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda proof: {**proof, "record": proof["record"].replace("540", "541")}, "record does not fit its hash"),
        (lambda proof: {**proof, "inputs": {**proof["inputs"], "salt": "00" * 16}}, "inputs do not fit their hash"),
        (lambda proof: {**proof, "leaf": proof["leaf"] + 1}, "the record is not in the seal"),
        (lambda proof: {**proof, "path": proof["path"][:-1]}, "the record is not in the seal"),
        (lambda proof: {**proof, "seal": proof["seal"] + " "}, "seal does not fit its digest"),
        (lambda proof: {**proof, "decision_id": str(UUID(int=1))}, "the record is that of another decision"),
        (lambda proof: {**proof, "path": None}, "this is no proof"),
        (lambda _: {}, "this is no proof"),
    ],
)
async def test_what_was_changed_in_a_proof_is_told(site: Site, change: Any, words: str) -> None:
    proof = await proof_of(site, sealed(site)[3])
    check_proof(proof)
    with pytest.raises(ProofError, match=words):
        check_proof(change(proof))


async def test_a_proof_for_another_seal_than_the_one_at_hand_is_told(site: Site) -> None:
    proof = await proof_of(site, sealed(site)[3])
    with pytest.raises(ProofError, match="not the one that was given"):
        check_proof(proof, seal=proof["seal"].encode() + b"\n")
    with pytest.raises(ProofError, match="not the one that was given"):
        check_proof(proof, seal_digest="00" * 32)


async def test_records_that_are_not_those_that_were_sealed_have_no_proof(site: Site) -> None:
    ids = sealed(site)
    site.database.sql("DELETE FROM decisions WHERE id = %s", ids[0])
    with pytest.raises(DifferenceError, match="the seal of 2026-05-10 are not those that were sealed"):
        await proof_of(site, ids[3])


async def test_seals_that_a_run_could_not_enter_are_entered_by_the_next(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first, *_, last = sealed(site)
    site.database.sql("TRUNCATE seals, sealed_logs")
    site.archive(noon(5, 12))
    check_proof(await proof_of(site, first))
    # Even if what was sealed is not there any more.
    site.database.sql("TRUNCATE seals, sealed_logs")
    site.database.sql("DELETE FROM decisions WHERE id = %s", first)
    site.archive(noon(5, 13))
    assert "the seal of 2026-05-10 is entered without paths" in caplog.text
    with pytest.raises(DifferenceError):
        await proof_of(site, last)


async def test_the_service_answers_with_seal_and_proof(site: Site, running: Running) -> None:
    (wanted,) = site.log().add(noon(5, 10))
    path = f"/v1/decisions/{wanted}"
    assert (await running.get(path)).json()["sealed"] is None
    refused = await running.get(f"{path}/proof")
    assert (refused.status_code, "not sealed yet" in refused.json()["detail"]) == (409, True)
    assert (await running.get(f"/v1/decisions/{UUID(int=5)}/proof")).status_code == 404

    site.archive(noon(5, 11))
    (stored,) = load_seals(site.bucket)
    assert (await running.get(path)).json()["sealed"] == {"day": "2026-05-10", "sha256": stored.sha256}
    assert (await running.get("/v1/decisions")).json()["decisions"][0]["sealed"]["sha256"] == stored.sha256
    check_proof((await running.get(f"{path}/proof")).json(), stored.document)


def test_the_command_fetches_a_proof_and_checks_it(
    site: Site, settings: ServeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (wanted,) = site.log().add(noon(5, 10))
    site.archive(noon(5, 11))
    (stored,) = load_seals(site.bucket)
    key, proof, seal = (tmp_path / name for name in ("key", "proof.json", "seal.json"))
    key.write_text("k-all")
    seal.write_bytes(stored.document)

    def run(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["creditrisk", "--key-file", str(key), "decisions", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out + captured.err

    with running_process(settings) as process:
        monkeypatch.setenv("CREDITRISK_URL", process.url)
        assert f"2026-05-10 {stored.sha256}" in run("get", wanted)[1]
        assert run("verify", "--id", wanted, "--seal", str(seal))[0] in {0, None}
        proof.write_text(run("proof", wanted)[1])
    # Nobody is asked from here on.
    monkeypatch.delenv("CREDITRISK_URL")
    code, out = run("verify", "--proof", str(proof), "--seal-sha256", stored.sha256.upper(), "--json")
    assert (code, json.loads(out)["decision_id"]) == (0, wanted)
    assert run("verify", "--proof", str(proof), "--seal-sha256", "00" * 32) == (
        3, f"the seal's digest is {stored.sha256}, and not the one that was given\n"
    )  # fmt: skip
    assert run("verify", "--proof", str(proof), "--from", "2026-01-01")[0] == 2
    assert run("verify", "--seal", str(seal))[0] == 2
    proof.write_text("{")
    assert run("verify", "--proof", str(proof))[0] == 2
