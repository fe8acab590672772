from __future__ import annotations

from hashlib import sha256

import pytest

from creditrisk.proof import _root
from decisions.records.merkle import MerkleTree, audit_path, leaf_node, root_of, tile_roots

# Of the reference implementation of Certificate Transparency.
LEAVES = [bytes.fromhex(leaf) for leaf in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    tree = MerkleTree()
    for leaf in LEAVES[:size]:
        tree.add(leaf)
    assert tree.root().hex() == ROOTS[size - 1]


def test_the_root_of_no_leaves_is_the_hash_of_nothing() -> None:
    assert MerkleTree().root() == sha256(b"").digest()


def test_memory_does_not_grow_with_the_leaves() -> None:
    tree = MerkleTree()
    for number in range(10_000):
        tree.add(number.to_bytes(4, "big"))
    assert tree.leaves == 10_000
    assert len(tree._subtrees) <= 14


def test_the_roots_of_tiles_have_the_root_of_their_leaves() -> None:
    leaves = [number.to_bytes(4, "big") for number in range(5_000)]
    for size in (1, 1023, 1024, 1025, 2048, 2049, 3072, 5000):
        tree = MerkleTree()
        for leaf in leaves[:size]:
            tree.add(leaf)
        assert root_of(list(tile_roots(leaves[:size]))) == tree.root()


@pytest.mark.parametrize("size", range(1, 9))
def test_paths_lead_to_the_roots_of_certificate_transparency(size: int) -> None:
    nodes = [leaf_node(leaf) for leaf in LEAVES[:size]]
    for index, leaf in enumerate(LEAVES[:size]):
        path = audit_path(nodes, index)
        assert _root(leaf, index, size, path) == ROOTS[size - 1]
        assert _root(leaf + b"\0", index, size, path) != ROOTS[size - 1]
        assert _root(leaf, index, size, [*path, path[0] if path else leaf]) is None
        assert not path or _root(leaf, index, size, path[1:]) != ROOTS[size - 1]
