"""Where containerd keeps unpacked images: in the cache, over a node's life, so that no image is unpacked twice.

A store belongs to one node at a time. A new node takes over the one that an ended node left, whichever state folder
that had, and removes all further ones: there are never more stores than nodes that ran at the same time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

OWNER = "state-folder"


def claim(stores: Path, name: str, state: Path, in_use: Callable[[Path], bool]) -> Path:
    """Return the store of this name for the node of a state folder, an ended node's where there is one.

    Args:
        stores: the folder of all stores.
        name: the name of this node's own one.
        state: this node's state folder.
        in_use: tells whether the node of another state folder runs.
    """
    own = stores / name
    free = [store for store in stores.glob("*") if store != own and not _has_owner(store, in_use)]
    newest_last = sorted(free, key=lambda store: (store / OWNER).stat().st_mtime if (store / OWNER).exists() else 0.0)
    if newest_last and not own.exists():
        newest_last.pop().rename(own)
    for store in newest_last:
        shutil.rmtree(store)
    own.mkdir(parents=True, exist_ok=True)
    (own / OWNER).write_text(str(state))
    return own


def stale(listed: str, wanted: set[str]) -> list[str]:
    """Return the references of images that are the stack's, but none of those that it has now.

    Args:
        listed: what `ctr images list` printed: a heading, then a line an image of reference, type, digest and more.
        wanted: references of the stack's present images.

    Returns:
        also the nameless references (`sha256:...`) to the same images, which would keep their content.
    """
    digests = {reference: rest[1] for reference, *rest in map(str.split, listed.splitlines()[1:])}
    kept = {digests[reference] for reference in wanted if reference in digests}
    # From whichever registry they came.
    ours = {digest for reference, digest in digests.items() if "/credit-risk/" in reference}
    return [reference for reference, digest in digests.items() if digest in ours - kept]


def _has_owner(store: Path, in_use: Callable[[Path], bool]) -> bool:
    owner = store / OWNER
    return owner.exists() and in_use(Path(owner.read_text()))
