"""`creditrisk decisions replay` against a running service: what people and programs read, and exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from creditrisk.__main__ import main
from scorer.model.bundle import Model
from unit.decisions.replay.chain import APPLICANT, Chain
from unit.decisions.replay.fixtures import chain, empty_now, registry, store, version, version_folder
from unit.decisions.replay.registry import MlflowServer
from unit.decisions.service.process import running_process

__all__ = ["chain", "empty_now", "registry", "store", "version", "version_folder"]
Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def creditrisk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run a command as a shell does, and return its exit code and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["creditrisk", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


async def test_a_replay_says_what_is_the_same_and_what_differs(
    chain: Chain, version: Model, registry: MlflowServer, creditrisk: Shell, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (decision,) = await chain.decide(version, [APPLICANT])
    key = tmp_path / "key"
    key.write_text("k-validator\n")
    monkeypatch.setenv("CREDITRISK_KEY_FILE", str(key))
    with running_process(chain.settings()) as process:
        monkeypatch.setenv("CREDITRISK_URL", process.url)

        async def replay(*arguments: str) -> tuple[int, str, str]:
            # Not in this thread, in which the registry answers.
            return await asyncio.to_thread(creditrisk, "decisions", "replay", *arguments)

        code, out, _ = await replay(str(decision))
        assert (code, "different" in out) == (0, False), out
        for words in ("RECORDED", "probability of default", "its bits", "from the registry", "from the database",
                      "onnxruntime"):  # fmt: skip
            assert words in out, out
        assert ["result", "same"] in [line.split() for line in out.splitlines()]
        code, out, _ = await replay(str(decision), "--json")
        assert (code, json.loads(out)["same"]) == (0, True)
        chain.database.sql("UPDATE decisions SET points = points + 1")
        code, out, _ = await replay(str(decision))
        assert (code, "different: score_points" in out) == (3, True)
        code, out, _ = await replay(str(decision), "--json")
        assert (code, json.loads(out)["differences"]) == (3, ["score_points"])
        # A decision that is not there is no difference.
        code, out, err = await replay(str(UUID(int=1)))
        assert (code, out, "there is no decision" in err) == (4, "", True)
        key.write_text("k-auditor\n")
        code, _, err = await replay(str(decision))
        assert (code, "lacks the permission decisions:replay" in err) == (4, True)
        key.write_text("k-all\n")
        registry.files.clear()
        registry.failing = 500
        chain.database.sql("UPDATE model_versions SET version = '6'")
        code, _, err = await replay(str(decision))
        assert (code, "row of version 6 of model credit-risk was changed" in err) == (5, True)
