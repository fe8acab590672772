"""Events: decisions that have much in common, as the scoring service packs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np

from decisions.errors import DamagedError

Role = Literal["champion", "canary", "fall-back", "shadow"]
Int32 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Text = TypeVar("Text", bound=str)
_BYTES = {"float32": 4, "int32": 4, "int64": 8}
_GREATEST_OF_SIGNED = 127


class Event(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """N decisions of one model version on one endpoint. All numbers in bytes are little-endian.

    Attributes:
        ids: The rows' UUIDv7, 16 bytes each; or that of row 0 alone, and that of row r is greater by r.
        request_id: The client's, or an assigned one; n of them, or one for all rows.
        endpoint: The label in the service's metrics.
        role: As whose answer it was scored; n of them, or one for all rows.
        client: Who asked, as access control knows it, empty if access is open; n of them, or one for all rows.
        version: The key of the model version in the segment.
        latency: Microseconds from the end of the request's body to the scores: int32 [n], or one number for all rows.
        rows: int32 [n], the rows' numbers in their requests; None for 0 to n - 1.
        applicant_ids: n of them, or None if none is known.
        numeric: float32 [n, numeric features], in the contract's order; NaN is missing.
        categorical: int64 [n, categorical features], as docs/model-contract.md codes them.
        probability: float32 [n].
        points: int32 [n].
        declined: bool [n].
        reasons: Reason codes of the rows whose request asked for them, n of them; None if none did.
    """

    ids: Annotated[bytes, msgspec.Meta(min_length=16)]
    request_id: str | Sequence[str]
    endpoint: str
    role: Role | Sequence[Role]
    client: str | Sequence[str]
    version: int
    latency: Int32 | bytes
    rows: bytes | None
    applicant_ids: Sequence[str | None] | None
    numeric: bytes
    categorical: bytes
    probability: bytes
    points: bytes
    declined: bytes
    reasons: Sequence[Sequence[str] | None] | None

    @property
    def count(self) -> int:
        """How many decisions it holds."""
        return len(self.declined)

    @property
    def row_ids(self) -> list[bytes]:
        """The rows' ids."""
        if len(self.ids) > 16:
            return [self.ids[at : at + 16] for at in range(0, len(self.ids), 16)]
        first = int.from_bytes(self.ids, "big")
        return [(first + row).to_bytes(16, "big") for row in range(self.count)]

    @property
    def last_id(self) -> bytes:
        """The id of its last decision."""
        return self.row_ids[-1]

    @property
    def request_ids(self) -> Iterable[str]:
        """The request id of each row."""
        return self._of_rows(self.request_id)

    @property
    def roles(self) -> Iterable[Role]:
        """The role of each row."""
        return self._of_rows(self.role)

    @property
    def clients(self) -> Iterable[str]:
        """The client of each row."""
        return self._of_rows(self.client)

    @property
    def latencies(self) -> Iterable[int]:
        """The latency of each row, in microseconds."""
        return _int32(self.latency) if isinstance(self.latency, bytes) else repeat(self.latency, self.count)

    @property
    def row_numbers(self) -> Sequence[int]:
        """Each row's number in its request."""
        return range(self.count) if self.rows is None else _int32(self.rows)

    def _of_rows(self, value: Text | Sequence[Text]) -> Iterable[Text]:
        return repeat(value, self.count) if isinstance(value, str) else value


@dataclass(frozen=True)
class Shape:
    """How many features of each kind a model version has."""

    numeric: int
    categorical: int


_decoder = msgspec.msgpack.Decoder(tuple[Event, ...])
_parts = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])
_event = msgspec.msgpack.Decoder(Event)


def decode_events(packed: bytes) -> tuple[list[Event], list[str]]:
    """Return the events of a group that can be read, and what is wrong with each of the others.

    Raises:
        DamagedError: It is not an array of events at all.
    """
    try:
        return list(_decoder.decode(packed)), []
    except msgspec.MsgspecError as error:
        cause = error
    try:
        parts = _parts.decode(packed)
    except msgspec.MsgspecError:
        raise DamagedError(f"not an array of events: {cause}") from cause
    events: list[Event] = []
    problems: list[str] = []
    for position, part in enumerate(parts):
        try:
            events.append(_event.decode(part))
        except msgspec.MsgspecError as error:
            problems.append(f"event {position}: {error}")
    return events, problems


def joined(events: Sequence[Event]) -> Event:
    """Return the first event with the numbers of all of them, which have one version, one after the other."""
    first, *others = events
    if not others:
        return first
    columns = ("numeric", "categorical", "probability", "points", "declined")
    return msgspec.structs.replace(first, **{name: b"".join(getattr(e, name) for e in events) for name in columns})


def problem_of(event: Event, shapes: dict[int, Shape]) -> str | None:
    """Return what is wrong with an event's parts, given the shape of each version by its key, or None."""
    if (shape := shapes.get(event.version)) is None:
        return f"version {event.version} is not in the segment"
    return next(_problems(event, shape), None)


def _problems(event: Event, shape: Shape) -> Iterator[str]:
    count = event.count
    if not count:
        yield "it has no decisions"
    if len(event.ids) not in {16, 16 * count}:
        yield f"ids has {len(event.ids)} bytes; {count} of 16 take {16 * count}"
    # A carry beyond the random part of a UUIDv7 would change its variant.
    if len(event.ids) == 16 and int.from_bytes(event.ids[8:], "big") % (1 << 62) + count > 1 << 62:
        yield "the ids of its rows exceed the random part of a UUIDv7"
    columns = [
        ("latency", event.latency, "int32", 1),
        ("rows", event.rows, "int32", 1),
        ("numeric", event.numeric, "float32", shape.numeric),
        ("categorical", event.categorical, "int64", shape.categorical),
        ("probability", event.probability, "float32", 1),
        ("points", event.points, "int32", 1),
    ]
    for name, column, kind, width in columns:
        expected = count * width * _BYTES[kind]
        if isinstance(column, bytes) and len(column) != expected:
            yield f"{name} has {len(column)} bytes; {kind} [{count}, {width}] takes {expected}"
    # The sign of an int32 is in its last byte.
    if isinstance(event.latency, bytes) and max(event.latency[3::4], default=0) > _GREATEST_OF_SIGNED:
        yield "a latency is negative"
    for name in ("request_id", "role", "client", "applicant_ids", "reasons"):
        values: str | Sequence[object] | None = getattr(event, name)
        if values is not None and not isinstance(values, str) and len(values) != count:
            yield f"{name} has {len(values)} entries for {count} decisions"


def _int32(column: bytes) -> list[int]:
    numbers: list[int] = np.frombuffer(column, "<i4").tolist()
    return numbers
