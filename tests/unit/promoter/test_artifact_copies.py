"""The ConfigMaps that hold a version's files: in pieces, immutable, named by content, as the scoring pods read them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from promoter.adapters import artifact_copies
from promoter.adapters.artifact_copies import config_maps
from promoter.adapters.artifact_volume import mounted, volume, with_volume, without_volume
from promoter.api.resource import Owner
from promoter.ports import VersionFiles

CONTRACTS = Path(__file__).parents[3] / "contracts"
GOLDEN = json.loads((CONTRACTS / "golden/artifact-copy.json").read_text())
OWNER = Owner("bank", "loans", "u-1")
FILES = VersionFiles(
    name="credit-risk", version="7", run_id="0a1b2c", digests=GOLDEN["digests"], metrics={"roc_auc": 0.81},
    content={"model.onnx": b"graph", "contract.json": b"{}"},
)  # fmt: skip
Document = dict[str, Any]


@pytest.fixture
def three_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_copies, "PIECE_BYTES", 3)


def manifest(documents: list[Document]) -> Document:
    return dict(json.loads(documents[0]["data"]["manifest.json"]))


def joined(documents: list[Document]) -> dict[str, bytes]:
    pieces = {name: base64.b64decode(text) for found in documents for name, text in found["binaryData"].items()}
    return {file: b"".join(pieces[name] for name in names) for file, names in manifest(documents)["files"].items()}


@pytest.mark.usefixtures("three_bytes")
def test_the_manifest_is_the_golden_one() -> None:
    documents = config_maps(OWNER, "scoring", FILES)
    assert manifest(documents) == GOLDEN
    jsonschema.validate(manifest(documents), json.loads((CONTRACTS / "artifact-copy.schema.json").read_text()))
    assert [found["data"] for found in documents[1:]] == [{}] * (len(documents) - 1)


@pytest.mark.parametrize("size", [0, 1, 526_000, 899_999, 900_000, 900_001, 1_800_000, 8 << 20])
def test_the_pieces_are_the_files_and_no_configmap_is_too_large(size: int) -> None:
    content = {"model.onnx": bytes(range(256)) * (size // 256) + b"x" * (size % 256), "contract.json": b"{}" * 2250}
    documents = config_maps(OWNER, "scoring", replace(FILES, content=content))
    assert joined(documents) == content
    for found in documents:
        assert sum(len(base64.b64decode(text)) for text in found["binaryData"].values()) <= 900_000
    assert len(documents) <= size // 900_000 + 2


def test_they_are_immutable_and_go_with_the_modelpromotion() -> None:
    (found,) = config_maps(OWNER, "scoring", FILES)
    assert found["immutable"] is True
    assert found["metadata"]["labels"] == {"creditrisk.io/artifacts-of": "u-1", "creditrisk.io/model-version": "7"}
    assert [(owner["kind"], owner["uid"]) for owner in found["metadata"]["ownerReferences"]] == [
        ("ModelPromotion", "u-1")]  # fmt: skip


def names(files: VersionFiles, target: str = "scoring", owner: Owner = OWNER) -> list[str]:
    return [found["metadata"]["name"] for found in config_maps(owner, target, files)]


def test_the_names_tell_contents_and_targets_apart_and_nothing_else() -> None:
    known = names(FILES)
    assert known == names(replace(FILES, metrics={"roc_auc": 0.5})), "a recreated copy would restart the pods"
    assert known == names(FILES, owner=Owner("bank", "loans", "u-2")), "a recreated promotion would restart the pods"
    others = [names(replace(FILES, version="8")), names(replace(FILES, digests={"model.onnx": "0" * 64})),
              names(FILES, "cards")]  # fmt: skip
    assert not [other for other in others if set(other) & set(known)]


def test_the_volume_is_optional_and_comes_and_goes_with_its_mount_alone() -> None:
    plain = {"spec": {
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [{"name": "scorer", "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}, {"name": "proxy"}],
    }}  # fmt: skip
    found = with_volume(plain, ("m-0", "m-1"), "scorer")
    assert mounted(found) == ("m-0", "m-1")
    assert all(source["configMap"]["optional"] for source in volume(("m-0", "m-1"))["projected"]["sources"])
    assert [mount["mountPath"] for mount in found["spec"]["containers"][0]["volumeMounts"]] == [
        "/tmp", "/etc/creditrisk/model"]  # fmt: skip
    assert "volumeMounts" not in found["spec"]["containers"][1]
    assert with_volume(found, ("m-2",), "scorer") == with_volume(plain, ("m-2",), "scorer")
    assert without_volume(found) == with_volume(found, (), "scorer") == plain
    assert mounted(plain) == ()
    only = {"spec": {"containers": [{"name": "scorer"}]}}
    assert without_volume(with_volume(only, ("m-0",), "scorer")) == only
