"""Model versions, each with an id that follows from what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from uuid import UUID

import msgspec

_VERSION_8 = 8 << 76
_VERSION_MASK = 0xF << 76
_VARIANT = 2 << 62
_VARIANT_MASK = 3 << 62


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model, as it scored.

    Attributes:
        name: Of the registered model.
        version: Its number in the registry.
        digests: The SHA-256 of each of its files, in hex, by the file's name.
        contract: contract.json, byte for byte.
    """

    name: str
    version: str
    digests: Mapping[str, str]
    contract: bytes

    @cached_property
    def id(self) -> UUID:
        """A UUIDv8 of the other attributes' digest, so that whoever writes the version chooses the same."""
        content = [self.name, self.version, dict(sorted(self.digests.items())), sha256(self.contract).hexdigest()]
        number = int.from_bytes(sha256(msgspec.json.encode(content)).digest()[:16], "big")
        return UUID(int=number & ~_VERSION_MASK & ~_VARIANT_MASK | _VERSION_8 | _VARIANT)
