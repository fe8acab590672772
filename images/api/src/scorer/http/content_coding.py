"""Request bodies with a Content-Encoding, inflated piece by piece while they are read.

Whoever reads a body stops at its own limit. A bomb is therefore inflated up to that limit and one piece more, and never
whole.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from scorer.http.asgi import Message, Receive
from scorer.problems import Problem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONTENT_ENCODING = b"content-encoding"
# The most bytes inflated at a time: a fraction of a millisecond of the event loop's time.
PIECE_BYTES = 65536
# gzip and zstd bodies may have several members (zstd calls them frames), as parallel compressors write them. Empty ones
# cost time and no bytes, so their number is limited. Members of 64 KiB, the smallest in use, are 128 in the largest
# batch.
MAX_MEMBERS = 1024
# RFC 9659: decoders need not support, and should refuse, windows of more than 8 MiB.
_WINDOW_LOG_MAX = 23


class _Decoder(Protocol):
    """Inflates one member: the common part of the standard library's decoders."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Coding:
    """A content coding.

    Attributes:
        start: Returns a decoder for a member that begins with these bytes, at least one.
        members: The most members that a body may have.
    """

    start: Callable[[bytes], _Decoder]
    members: int


def _start_deflate(data: bytes) -> _Decoder:
    # RFC 9110 means the format of zlib, whose first byte ends with 1000. Some clients send raw deflate; only a stored
    # block with a padding bit set could begin like that.
    return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS)


def _start_zstd(_: bytes) -> _Decoder:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})


_GZIP = _Coding(lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS), MAX_MEMBERS)
_CODINGS = {
    "gzip": _GZIP, "x-gzip": _GZIP, "deflate": _Coding(_start_deflate, 1), "zstd": _Coding(_start_zstd, MAX_MEMBERS),
}  # fmt: skip
# What clients are told; identity, which means no coding, goes without saying.
ACCEPTED = "gzip, deflate, zstd"


class Inflater:
    """Inflates one body."""

    def __init__(self, name: str) -> None:
        """Take the name of a supported coding."""
        self._name, self._coding = name, _CODINGS[name]
        self._decoder: _Decoder | None = None
        self._members = 0

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body hold, at most PIECE_BYTES at a time.

        Raises:
            Problem: 400 if they are not valid.
        """
        more = bool(data)
        while more:
            decoder = self._decoder or self._start(data)
            try:
                piece = decoder.decompress(data, PIECE_BYTES)
            except (zlib.error, zstd.ZstdError) as error:
                raise self._invalid(str(error)) from error
            if decoder.eof:
                self._decoder = None
                data = decoder.unused_data
                more = bool(data)
            else:
                # zstd's decoder keeps what it has not read; zlib's hands it back. Either may also hold output back.
                data = getattr(decoder, "unconsumed_tail", b"")
                more = bool(data) or len(piece) == PIECE_BYTES
            if piece:
                yield piece

    def finish(self) -> None:
        """Check that the body is complete; an empty one is.

        Raises:
            Problem: 400 if it ends early.
        """
        if self._decoder is not None:
            raise self._invalid("it ends early")

    def _start(self, data: bytes) -> _Decoder:
        if self._members == self._coding.members:
            few = f"it has more than {self._members} members" if self._members > 1 else "bytes follow its end"
            raise self._invalid(few)
        self._members += 1
        self._decoder = self._coding.start(data)
        return self._decoder

    def _invalid(self, why: str) -> Problem:
        return Problem(400, f"the body is not valid {self._name}: {why}")


class CodedBodies:
    """Inflates the bodies of requests that have a content coding."""

    def __init__(self, max_bytes: int) -> None:
        """Take the limit of a body before it is inflated: one that never ends may hold nothing at all."""
        self._max_bytes = max_bytes

    def inflated(self, coding: str, receive: Receive) -> Receive:
        """Return a `receive` of the body as it was before it was encoded.

        It raises a Problem: 400 for a body that is not what its coding says, 413 for one beyond the limit.
        """
        inflater = Inflater(coding)
        pieces: Iterator[bytes] = iter(())
        size, more = 0, True

        async def read_on() -> Message | None:
            """Take the next bytes; return a message if they are none of the body's."""
            nonlocal pieces, size, more
            message = await receive()
            if message["type"] != "http.request":
                return message
            more = message.get("more_body", False)
            data: bytes = message.get("body", b"")
            size += len(data)
            if size > self._max_bytes:
                raise Problem(413, f"the body is larger than {self._max_bytes} bytes before it is inflated")
            pieces = inflater.inflate(data)
            return None

        async def inflated_receive() -> Message:
            while True:
                if (piece := next(pieces, None)) is not None:
                    # Other requests get a turn after each piece.
                    await asyncio.sleep(0)
                    return _message(piece, more_body=True)
                if not more:
                    inflater.finish()
                    return _message(b"", more_body=False)
                if (other := await read_on()) is not None:
                    return other

        return inflated_receive


def _message(body: bytes, *, more_body: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more_body}


def coding_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return a request's content coding; None for most requests, and for identity.

    Raises:
        Problem: 415 for a coding that is not supported, and for several: they multiply what a bomb can hold, and nobody
            gains from them.
    """
    given = b",".join(value for name, value in headers if name == CONTENT_ENCODING)
    return _coding_of(given) if given else None


@lru_cache(maxsize=64)
def _coding_of(given: bytes) -> str | None:
    names = [name for part in given.decode("latin-1").lower().split(",") if (name := part.strip())]
    codings = [name for name in names if name != "identity"]
    if len(codings) > 1 or not set(codings) <= set(_CODINGS):
        raise Problem(
            415,
            f"the body's Content-Encoding is {', '.join(names)[:80]}; allowed: one of {ACCEPTED}",
            headers=(("Accept-Encoding", ACCEPTED),),
        )
    return codings[0] if codings else None
