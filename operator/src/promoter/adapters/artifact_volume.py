"""The volume by which pods mount the ConfigMaps with a version's files: documents only, no I/O."""

from __future__ import annotations

import copy
from typing import Any

Document = dict[str, Any]
VOLUME, MOUNT_PATH = "model-artifacts", "/etc/creditrisk/model"


def volume(names: tuple[str, ...]) -> Document:
    """Return the volume with these ConfigMaps; optional ones, so that a pod whose copy is gone asks the registry."""
    sources = [{"configMap": {"name": name, "optional": True}} for name in names]
    return {"name": VOLUME, "projected": {"sources": sources}}


def volume_mount() -> Document:
    """Return how the scoring container mounts it."""
    return {"name": VOLUME, "mountPath": MOUNT_PATH, "readOnly": True}


def mounted(template: Document) -> tuple[str, ...]:
    """Return the ConfigMaps of a pod template's volume, () if it has none."""
    for found in template.get("spec", {}).get("volumes") or []:
        if found["name"] == VOLUME:
            sources = found.get("projected", {}).get("sources") or []
            return tuple(source["configMap"]["name"] for source in sources if "configMap" in source)
    return ()


def without_volume(template: Document) -> Document:
    """Return a pod template without the volume and its mount."""
    template = copy.deepcopy(template)
    spec = template.get("spec", {})
    _remove(spec, "volumes")
    for container in spec.get("containers") or []:
        _remove(container, "volumeMounts")
    return template


def with_volume(template: Document, names: tuple[str, ...], container: str) -> Document:
    """Return a pod template with the volume mounted into a container; without names, without it."""
    template = without_volume(template)
    if names:
        template["spec"]["volumes"] = [*(template["spec"].get("volumes") or []), volume(names)]
        for found in template["spec"]["containers"]:
            if found["name"] == container:
                found["volumeMounts"] = [*(found.get("volumeMounts") or []), volume_mount()]
    return template


def _remove(document: Document, key: str) -> None:
    """Remove the volume from a list, and the list if nothing else was in it, as before the volume was added."""
    found = document.get(key) or []
    kept = [item for item in found if item["name"] != VOLUME]
    if kept:
        document[key] = kept
    elif found:
        del document[key]
