"""Events: what the log keeps of a scored request, as contracts/decision-segment.sql describes it."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.applications.applicants import ApplicantIds
from scorer.applications.rows import CodeRows, FloatRows
from scorer.decision_log.ids import DecisionIds
from scorer.decision_log.origin import Origin

_pack_float, _pack_integer = struct.Struct("<f").pack, struct.Struct("<i").pack
_pack_bool = (b"\0", b"\1")


# gc=False: it cannot be part of a reference cycle, and every request makes one.
class Event(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One request that was scored, with n decisions; the fields are those of the agreement, in its order."""

    first_id: bytes
    request_id: str
    endpoint: str
    role: str
    client: str
    version: int
    latency: int
    rows: bytes | None
    applicant_ids: Sequence[str | None] | None
    numeric: bytes
    categorical: bytes
    probability: bytes
    points: bytes
    declined: bytes
    reasons: Sequence[str] | None


class Single(msgspec.Struct, frozen=True, gc=False):
    """The decision on a single application, until it becomes an event.

    Making events is left to a moment when there are many to make, which takes a third of the time: code and data are in
    the processor's cache then.

    Attributes:
        half: The first half of its id.
        ended: The perf_counter of when it was scored.
        origin: Where the request came from; its applicant's id has precedence.
        applicant_id: That of the body.
        client: As access control knows it.
        version: The model version's key.
        numeric: [1, numeric features].
        codes: [1, categorical features].
        probability: The probability of default.
        points: The score points.
        declined: The decision.
        reasons: The codes of the reasons that were asked for.
    """

    half: int
    ended: float
    origin: Origin
    applicant_id: str | None
    client: str
    version: int
    numeric: FloatRows
    codes: CodeRows
    probability: float
    points: int
    declined: bool
    reasons: Sequence[str] | None

    def event(self, ids: DecisionIds) -> Event:
        """Return the event; `ids` made the id."""
        origin = self.origin
        applicant = origin.applicant_id or self.applicant_id
        return Event(
            ids.octets(self.half), origin.request_id, origin.endpoint, origin.role, self.client, self.version,
            int((self.ended - origin.started) * 1e6), None, (applicant,) if applicant else None,
            self.numeric.tobytes(), self.codes.tobytes(), _pack_float(self.probability), _pack_integer(self.points),
            _pack_bool[self.declined], self.reasons,
        )  # fmt: skip


class DecidedRows(msgspec.Struct, frozen=True, gc=False):
    """The decisions of a batch in columns of bytes, one value for every row that was not refused.

    They are made in the batches' thread, and become an event in the event loop's, where ids are made.
    """

    count: int
    latency: int
    rows: bytes | None
    applicant_ids: ApplicantIds | None
    columns: tuple[bytes, ...]

    @classmethod
    def of(
        cls,
        origin: Origin,
        applicant_ids: ApplicantIds | None,
        columns: Sequence[npt.NDArray[np.generic]],
        refused: Sequence[int],
        first_row: int,
    ) -> DecidedRows:
        """Take a scored batch.

        Args:
            origin: Where the request came from.
            applicant_ids: N of them, or None if no row has one.
            columns: Numeric [N, numeric features], codes [N, categorical features], probabilities, points, declined
                [N].
            refused: The rows that have no decision.
            first_row: The number of row 0 in the request.
        """
        latency = int((time.perf_counter() - origin.started) * 1e6)
        total = len(columns[0])
        if not refused and not first_row:
            return cls(total, latency, None, applicant_ids, tuple(column.tobytes() for column in columns))
        kept = np.delete(np.arange(total, dtype=np.int32), refused)
        return cls(
            len(kept), latency, (kept + np.int32(first_row)).tobytes(),
            applicant_ids and [applicant_ids[row] for row in kept.tolist()],
            tuple(column[kept].tobytes() for column in columns),
        )  # fmt: skip

    def event(self, ids: DecisionIds, version: int, client: str, origin: Origin) -> Event:
        """Return the event, with a new id; the other arguments are those of its fields."""
        half, _ = ids.next()
        numeric, codes, probability, points, declined = self.columns
        return Event(
            ids.octets(half), origin.request_id, origin.endpoint, origin.role, client, version, self.latency, self.rows,
            self.applicant_ids, numeric, codes, probability, points, declined, None,
        )  # fmt: skip
