"""Requests with a Content-Encoding: whole, spoiled, and bombs."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from dataclasses import replace

from backports import zstd

from unit.scorer.fuzz.documents import NDJSON, Shot, spoil
from unit.scorer.fuzz.wire import Answer

Encode = Callable[[bytes, random.Random], bytes]


def _gzip(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    members = dice.choice([[data], [data], [data[:at], data[at:]], [b"", data, b""]])
    return b"".join(gzip.compress(member, dice.choice([0, 1, 9])) for member in members)


def _zstd(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    # A skippable frame holds what no reader looks at.
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    frames = dice.choice([[data], [data], [data[:at], data[at:]]])
    return dice.choice([b"", b"", skippable]) + b"".join(zstd.compress(frame, dice.choice([1, 19])) for frame in frames)


def _deflate(data: bytes, dice: random.Random) -> bytes:
    encoder = zlib.compressobj(dice.choice([0, 1, 9]), wbits=dice.choice([zlib.MAX_WBITS, -zlib.MAX_WBITS, 9]))
    return encoder.compress(data) + encoder.flush()


ENCODERS: dict[str, Encode] = {"gzip": _gzip, "GZIP": _gzip, "x-gzip": _gzip, "deflate": _deflate, "zstd": _zstd,
                               "identity": lambda data, _: data, "identity, gzip": _gzip}  # fmt: skip
# 32 MiB of zeros, beyond every limit.
BOMBS = {name: ENCODERS[name](bytes(2**25), random.Random(1)) for name in ("gzip", "deflate", "zstd")}


def coded(shot: Shot, dice: random.Random) -> Shot:
    """Return a request with its body encoded, encoded and then spoiled, or replaced by a bomb."""
    kind = dice.random()
    if kind < 0.05:
        name = dice.choice(list(BOMBS))
        return _with(shot, name, BOMBS[name], _too_large)
    if kind < 0.1:
        return _with(shot, dice.choice(["br", "gzip, gzip", "zstd, identity, deflate", "\u00ff"]), b"", _unsupported)
    name = dice.choice(list(ENCODERS))
    body = ENCODERS[name](shot.request.body, dice)
    if kind < 0.6:
        return _with(shot, name, body, shot.check)
    return _with(shot, name, spoil(body, dice), _scored_or_refused)


def _with(shot: Shot, name: str, body: bytes, check: Callable[[Answer], str]) -> Shot:
    headers = {**shot.request.headers, "Content-Encoding": name}
    return Shot(replace(shot.request, body=body, headers=headers), check)


def _too_large(answer: Answer) -> str:
    if answer.headers["content-type"] == NDJSON:
        return "" if b'"status":413' in answer.body.splitlines()[-1] else f"a bomb was answered: {answer.body[-300:]!r}"
    # The content type may be wrong too.
    return "" if answer.status in {413, 415} else f"status {answer.status} for a bomb"


def _unsupported(answer: Answer) -> str:
    return "" if answer.status == 415 else f"status {answer.status} for another coding"


def _scored_or_refused(answer: Answer) -> str:
    """Whatever bytes meant after all, it was scored or refused."""
    return "" if answer.status in {200, 400, 413, 415, 422} else f"status {answer.status}"
