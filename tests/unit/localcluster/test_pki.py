from __future__ import annotations

from pathlib import Path

import yaml

from localcluster.embedded import pki


def test_a_kubeconfig_is_self_contained_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    authority = pki.Authority(tmp_path / "pki")
    file = authority.kubeconfig(tmp_path / "kubeconfig", pki.Identity("me", ("admins",)), "https://127.0.0.1:1")
    document = yaml.safe_load(file.read_text())
    assert document["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert set(document["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert file.stat().st_mode & 0o077 == 0
    assert all(key.stat().st_mode & 0o077 == 0 for key in (tmp_path / "pki").glob("*.key"))
