"""The ConfigMaps that hold a version's files: documents only, no I/O.

ConfigMaps hold 1 MiB each, so files are cut into pieces. They are immutable and named by their content; the scoring
service verifies the digests in any case.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from promoter.adapters.owner import owner_reference
from promoter.api.resource import GROUP, Owner
from promoter.ports import VersionFiles

Document = dict[str, Any]
OWNER_LABEL, VERSION_LABEL = f"{GROUP}/artifacts-of", f"{GROUP}/model-version"
MANIFEST = "manifest.json"
PIECE_BYTES = 900_000


def config_maps(owner: Owner, target: str, files: VersionFiles) -> list[Document]:
    """Return the ConfigMaps for a version's files; the first one has the manifest too."""
    pieces = {name: list(_pieces(name, content)) for name, content in files.content.items()}
    content = {
        "name": files.name,
        "version": files.version,
        "run_id": files.run_id,
        "digests": files.digests,
        "files": {name: [piece for piece, _ in cut] for name, cut in pieces.items()},
    }
    # Without the metrics, which may change in the registry: a recreated copy then has the same names, and pod templates
    # that mount it do not change.
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
    manifest = json.dumps({**content, "metrics": files.metrics}, sort_keys=True, allow_nan=False)
    packed = _pack([piece for cut in pieces.values() for piece in cut])
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"{target}-model-{files.version}-{digest}-{index}",
                "labels": {OWNER_LABEL: owner.uid, VERSION_LABEL: files.version},
                "ownerReferences": [owner_reference(owner)],
            },
            "immutable": True,
            "data": {MANIFEST: manifest} if index == 0 else {},
            "binaryData": {name: base64.b64encode(content).decode() for name, content in pieces_of_map.items()},
        }
        for index, pieces_of_map in enumerate(packed)
    ]


def _pieces(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    for index, at in enumerate(range(0, max(len(content), 1), PIECE_BYTES)):
        yield f"{name}.{index:03d}", content[at : at + PIECE_BYTES]


def _pack(pieces: list[tuple[str, bytes]]) -> list[dict[str, bytes]]:
    """Distribute pieces over as few ConfigMaps as their order allows."""
    packed: list[dict[str, bytes]] = [{}]
    for name, content in pieces:
        if packed[-1] and sum(map(len, packed[-1].values())) + len(content) > PIECE_BYTES:
            packed.append({})
        packed[-1][name] = content
    return packed
