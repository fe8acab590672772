"""API keys: files of hashes, read again when they change."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scorer.auth.api_keys import ApiKeys
from scorer.problems import Problem
from unit.scorer.access_keys import hashed, write_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_keys(tmp_path)


async def is_known(keys: ApiKeys, key: str) -> bool:
    try:
        await keys.identify(key)
    except Problem:
        return False
    return True


async def test_keys_are_added_and_revoked_without_a_restart(folder: Path) -> None:
    keys = ApiKeys(folder)
    keeping = asyncio.create_task(keys.keep_reading(0.02))
    (folder / "lender").write_text(f"# old and new\n{hashed('k-lender')}\n{hashed('k-new')}\n")
    (folder / "broker").unlink()
    (folder / "agent").write_text(hashed("k-agent"))
    async with asyncio.timeout(5):
        while not await is_known(keys, "k-agent"):
            await asyncio.sleep(0.01)
    assert [await keys.identify(key) for key in ("k-lender", "k-new", "k-agent")] == ["lender", "lender", "agent"]
    with pytest.raises(Problem, match="unknown API key"):
        await keys.identify("k-broker")
    keeping.cancel()


async def test_a_folder_that_the_kubelet_swaps_is_read_again(tmp_path: Path) -> None:
    for name, key in (("..1", "k-1"), ("..2", "k-2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lender").write_text(hashed(key))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "lender").symlink_to("..data/lender")
    keys = ApiKeys(tmp_path)
    assert await keys.identify("k-1") == "lender"
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    keys.refresh()
    assert await keys.identify("k-2") == "lender"


async def test_an_invalid_line_affects_no_other_client_and_a_missing_folder_has_no_clients(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "broker").write_text("k-broker\n")
    keys = ApiKeys(folder)
    assert await keys.identify("k-lender") == "lender"
    assert "line 1 of broker is not a SHA-256" in caplog.text
    assert "k-broker" not in caplog.text
    with pytest.raises(Problem):
        await ApiKeys(folder / "nowhere").identify("k-lender")
