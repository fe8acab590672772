"""The Merkle tree of RFC 6962: its root in memory that grows with the logarithm of the leaves, and its audit paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice

# Leaves whose common root is kept, so that a path needs no others than those of its own tile. A power of two, so that
# each tile is a subtree.
TILE_LEAVES = 1024


class MerkleTree:
    """A tree that leaves are only added to."""

    def __init__(self) -> None:
        """Begin with no leaves."""
        # The roots of the complete subtrees so far, the largest first, each with its number of leaves.
        self._subtrees: list[tuple[int, bytes]] = []
        self.leaves = 0

    def add(self, leaf: bytes) -> None:
        """Add a leaf on the right."""
        size, root = 1, leaf_node(leaf)
        while self._subtrees and self._subtrees[-1][0] == size:
            left = self._subtrees.pop()[1]
            size, root = size * 2, _parent(left, root)
        self._subtrees.append((size, root))
        self.leaves += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash, 32 bytes; of no leaves, the SHA-256 of nothing."""
        if not self._subtrees:
            return sha256().digest()
        *rest, (_, root) = self._subtrees
        for _, left in reversed(rest):
            root = _parent(left, root)
        return root


def tile_roots(leaves: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the root of every `TILE_LEAVES` leaves, and of those left at the end."""
    rest = iter(leaves)
    while tile := list(islice(rest, TILE_LEAVES)):
        yield root_of([leaf_node(leaf) for leaf in tile])


def leaf_node(leaf: bytes) -> bytes:
    """Return the hash of a leaf, the lowest node of the tree."""
    return sha256(b"\0" + leaf).digest()


def root_of(nodes: Sequence[bytes]) -> bytes:
    """Return the root over nodes of one level, at least one: leaves' nodes or the roots of tiles."""
    while len(nodes) > 1:
        nodes = _next_level(nodes)
    return nodes[0]


def audit_path(nodes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the nodes that lead from the one at `index` to the root over all of them, the lowest first."""
    path = []
    while len(nodes) > 1:
        if (sibling := index ^ 1) < len(nodes):
            path.append(nodes[sibling])
        nodes, index = _next_level(nodes), index // 2
    return path


def _next_level(nodes: Sequence[bytes]) -> list[bytes]:
    pairs = zip(nodes[::2], nodes[1::2], strict=False)
    return [_parent(left, right) for left, right in pairs] + list(nodes[len(nodes) & ~1 :])


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
