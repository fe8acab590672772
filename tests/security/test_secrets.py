"""No secrets in the repository's history and in rendered manifests. The scanner is shown to find what it should."""

from __future__ import annotations

import secrets
import string
import subprocess
from pathlib import Path

import pytest
import yaml

from charts.rendering import SCENARIOS, render
from conftest import REPOSITORY
from security.secret_scan import secrets_in


def git(*arguments: str, text: bytes = b"") -> bytes:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, input=text, capture_output=True, check=True).stdout


def export_history(folder: Path) -> int:
    """Write every version of every file and every commit message, each once; return how many.

    Their names are their digests: the scanner leaves out folders by names such as `tests`.
    """
    listed = git("rev-list", "--objects", "--all").splitlines()
    names = b"\n".join(line.split()[0] for line in listed)
    kinds = git("cat-file", "--batch-check=%(objectname) %(objecttype)", text=names).decode().splitlines()
    wanted = [name for name, kind in (line.split() for line in kinds) if kind in {"blob", "commit"}]
    stream = git("cat-file", "--batch", text="\n".join(wanted).encode())
    position = 0
    for name in wanted:
        end = stream.index(b"\n", position)
        size = int(stream[position:end].split()[2])
        (folder / name).write_bytes(stream[end + 1 : end + 1 + size])
        position = end + 1 + size + 1
    return len(wanted)


@pytest.mark.slow
def test_the_history_holds_no_secrets(tmp_path: Path) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is not a clone of the repository")
    history = tmp_path / "history"
    history.mkdir()
    assert export_history(history) > 0
    assert secrets_in("fs", history, tmp_path) == []


@pytest.mark.slow
def test_rendered_manifests_hold_credentials_only_in_secrets(tmp_path: Path) -> None:
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    for scenario in SCENARIOS:
        documents = [document for document in render(scenario) if document["kind"] != "Secret"]
        (rendered / scenario.replace("/", "-")).write_text(yaml.safe_dump_all(documents))
    assert secrets_in("fs", rendered, tmp_path) == []


def test_a_planted_secret_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    letters = string.ascii_letters + string.digits
    # Put together here, so that this file is not a finding itself.
    token = "ghp" + "_" + "".join(secrets.choice(letters) for _ in range(36))
    (folder / "0a1b2c").write_text(f"token: {token}\n")
    (folder / "key").write_text(
        "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "A" * 64 + "\n-----END RSA " + "PRIVATE KEY-----\n"
    )
    assert sorted(found.partition(" ")[2] for found in secrets_in("fs", folder, tmp_path)) == [
        "github-pat",
        "private-key",
    ]
