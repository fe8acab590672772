"""The Secret with API keys means the same to the three services that read one: each has code of its own for it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from decisions.service.access import ApiKeys as DecisionsKeys
from promoter.page.access import KeyAccess
from scorer.auth.api_keys import ApiKeys as ScoringKeys
from scorer.problems import Problem


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A mounted Secret, with comments, spaces, two keys of one client, capitals, a damaged line, and hidden entries."""
    (tmp_path / "lender").write_text(f"# rotated in May\n  {hashed('old')}  # until June\n{hashed('new').upper()}\n")
    (tmp_path / "broken").write_text(f"{hashed('cut')[:-1]}\nplain\n{hashed('after')}")
    (tmp_path / "empty").write_text("")
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text(hashed("hidden"))
    return tmp_path


@pytest.mark.parametrize(
    ("key", "known"),
    [("old", True), ("new", True), ("after", True), ("cut", False), ("plain", False), ("hidden", False), ("", False),
     ("unknown", False)],
)  # fmt: skip
async def test_every_service_admits_the_same_keys(secret: Path, key: str, known: bool) -> None:
    try:
        scoring = bool(await ScoringKeys(secret).identify(key))
    except Problem:
        scoring = False
    decisions = DecisionsKeys(secret).client_of(key) is not None
    page = KeyAccess(secret).admits({"X-API-Key": key})
    assert (scoring, decisions, page) == (known, known, known)
