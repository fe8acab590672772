"""The root of a Merkle tree as RFC 6962 defines it, in memory that grows with the logarithm of the leaves."""

from __future__ import annotations

from hashlib import sha256


class MerkleTree:
    """A tree that leaves are only added to."""

    def __init__(self) -> None:
        """Begin with no leaves."""
        # The roots of the complete subtrees so far, the largest first, each with its number of leaves.
        self._subtrees: list[tuple[int, bytes]] = []
        self.leaves = 0

    def add(self, leaf: bytes) -> None:
        """Add a leaf on the right."""
        size, root = 1, sha256(b"\0" + leaf).digest()
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


def _parent(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
