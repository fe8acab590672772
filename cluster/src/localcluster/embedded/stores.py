"""containerd's image stores: kept in the cache beyond the life of a node, so that no image is unpacked twice.

A store belongs to one node at a time. A new node takes over the most recent store that no running node uses, whatever
its state folder, and removes the other unused ones, so there are never more stores than nodes that ran at the same
time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

OWNER = "state-folder"


def claim(stores: Path, name: str, state: Path, in_use: Callable[[Path], bool]) -> Path:
    """Return this node's store: its own, else one that no running node uses, else a new one.

    Args:
        stores: Folder of all stores.
        name: Name of this node's store.
        state: This node's state folder.
        in_use: Returns whether the node of a state folder is running.
    """
    own = stores / name
    free = [store for store in stores.glob("*") if store != own and not _is_in_use(store, in_use)]
    newest_last = sorted(free, key=lambda store: (store / OWNER).stat().st_mtime if (store / OWNER).exists() else 0.0)
    if newest_last and not own.exists():
        newest_last.pop().rename(own)
    for store in newest_last:
        shutil.rmtree(store)
    own.mkdir(parents=True, exist_ok=True)
    (own / OWNER).write_text(str(state))
    return own


def stale(listed: str, wanted: set[str]) -> list[str]:
    """Return the references of old versions of the stack's images.

    Args:
        listed: Output of `ctr images list`: a header, then one line per image with reference, type, digest and more.
        wanted: References of the stack's current images.

    Returns:
        References by name, and those by digest (`sha256:...`) to the same images, which would keep their content.
    """
    digests = {reference: rest[1] for reference, *rest in map(str.split, listed.splitlines()[1:])}
    kept = {digests[reference] for reference in wanted if reference in digests}
    # Whatever registry they came from.
    ours = {digest for reference, digest in digests.items() if "/credit-risk/" in reference}
    return [reference for reference, digest in digests.items() if digest in ours - kept]


def _is_in_use(store: Path, in_use: Callable[[Path], bool]) -> bool:
    owner = store / OWNER
    return owner.exists() and in_use(Path(owner.read_text()))
