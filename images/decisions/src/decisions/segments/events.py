"""Events: one scored request each, as the scoring service packs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from decisions.errors import DamagedError

Role = Literal["champion", "canary", "fall-back", "shadow"]
Int32 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_BYTES = {"float32": 4, "int32": 4, "int64": 8}


class Event(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """One request that was scored, with n decisions. All numbers in bytes are little-endian.

    Attributes:
        first_id: The UUIDv7 of row 0; that of row r is greater by r.
        request_id: The client's, or an assigned one.
        endpoint: The label in the service's metrics.
        role: As whose answer it was scored.
        client: Who asked, as access control knows it; empty if access is open.
        version: The key of the model version in the segment.
        latency: Microseconds from the end of the request's body to the scores.
        rows: int32 [n], the rows' numbers in the request; None for 0 to n - 1.
        applicant_ids: n of them, or None if none is known.
        numeric: float32 [n, numeric features], in the contract's order; NaN is missing.
        categorical: int64 [n, categorical features], as docs/model-contract.md codes them.
        probability: float32 [n].
        points: int32 [n].
        declined: bool [n].
        reasons: Reason codes, if the request asked for them.
    """

    first_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    request_id: str
    endpoint: str
    role: Role
    client: str
    version: int
    latency: Int32
    rows: bytes | None
    applicant_ids: Sequence[str | None] | None
    numeric: bytes
    categorical: bytes
    probability: bytes
    points: bytes
    declined: bytes
    reasons: Sequence[str] | None

    @property
    def count(self) -> int:
        """How many decisions it holds."""
        return len(self.declined)

    @property
    def last_id(self) -> bytes:
        """The id of its last decision."""
        return id_of_row(self.first_id, self.count - 1)


@dataclass(frozen=True)
class Shape:
    """How many features of each kind a model version has."""

    numeric: int
    categorical: int


_decoder = msgspec.msgpack.Decoder(tuple[Event, ...])
_parts = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])
_event = msgspec.msgpack.Decoder(Event)


def id_of_row(first_id: bytes, row: int) -> bytes:
    """Return the id of an event's row."""
    return (int.from_bytes(first_id, "big") + row).to_bytes(16, "big")


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
    # A carry beyond the random part of a UUIDv7 would change its variant.
    if int.from_bytes(event.first_id[8:], "big") % (1 << 62) + count > 1 << 62:
        yield "the ids of its rows exceed the random part of a UUIDv7"
    columns = [
        ("rows", event.rows, "int32", 1),
        ("numeric", event.numeric, "float32", shape.numeric),
        ("categorical", event.categorical, "int64", shape.categorical),
        ("probability", event.probability, "float32", 1),
        ("points", event.points, "int32", 1),
    ]
    for name, column, kind, width in columns:
        expected = count * width * _BYTES[kind]
        if column is not None and len(column) != expected:
            yield f"{name} has {len(column)} bytes; {kind} [{count}, {width}] takes {expected}"
    if event.applicant_ids is not None and len(event.applicant_ids) != count:
        yield f"applicant_ids has {len(event.applicant_ids)} entries for {count} decisions"
    if event.reasons is not None and count != 1:
        yield f"it has reasons, and {count} decisions instead of one"
