"""Events: what the log keeps of scored requests, as contracts/decision-segment.sql describes it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.applications.applicants import ApplicantIds
from scorer.applications.rows import CodeRows, FloatRows
from scorer.decision_log.ids import DecisionIds
from scorer.decision_log.origin import Origin

Reasons = Sequence[str] | None
# An int32; more microseconds than any client waits for.
_MOST = 2**31 - 1


# gc=False: it cannot be part of a reference cycle.
class Event(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """N decisions of one model version on one endpoint; the fields are those of the agreement, in its order."""

    ids: bytes
    request_id: str | Sequence[str]
    endpoint: str
    role: str | Sequence[str]
    client: str | Sequence[str]
    version: int
    latency: int | bytes
    rows: bytes | None
    applicant_ids: Sequence[str | None] | None
    numeric: bytes
    categorical: bytes
    probability: bytes
    points: bytes
    declined: bytes
    reasons: Sequence[Reasons] | None


# gc=False: likewise, and every request makes one.
class Single(msgspec.Struct, frozen=True, gc=False):
    """The decision on a single application, until it becomes part of an event.

    It only refers to what scoring has made anyway. Making one event of many decisions later takes a fraction of the
    time that as many events would.

    Attributes:
        half: The first half of its id.
        ended: The perf_counter of when it was scored.
        origin: Where the request came from; its applicant's id has precedence.
        applicant_id: That of the body.
        client: As access control knows it.
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
    numeric: FloatRows
    codes: CodeRows
    probability: float
    points: int
    declined: bool
    reasons: Reasons


def event_of(singles: Sequence[Single], ids: DecisionIds, version: int) -> Event:
    """Return the event of decisions on single applications, at least one, by one version on one endpoint.

    Args:
        singles: The decisions.
        ids: Made their ids.
        version: The version's key.
    """
    halves, ended, origins, in_bodies, clients, numeric, codes, probabilities, points, declined, reasons = zip(
        *map(msgspec.structs.astuple, singles), strict=True
    )
    applicants = [origin.applicant_id or in_body or None for origin, in_body in zip(origins, in_bodies, strict=True)]
    latencies = [min(int((end - origin.started) * 1e6), _MOST) for end, origin in zip(ended, origins, strict=True)]
    # Joining arrays, and packing by array, takes a third of the time that NumPy would on so few rows.
    return Event(
        ids.octets_of(halves), [origin.request_id for origin in origins], origins[0].endpoint,
        _one_or_all([origin.role for origin in origins]), _one_or_all(clients), version,
        array("i", latencies).tobytes(), bytes(4 * len(singles)), applicants if any(applicants) else None,
        b"".join(numeric), b"".join(codes), array("f", probabilities).tobytes(), array("i", points).tobytes(),
        bytes(declined), None if reasons.count(None) == len(reasons) else reasons,
    )  # fmt: skip


def _one_or_all(texts: Sequence[str]) -> str | Sequence[str]:
    """Return a text that is the same for all rows once."""
    return texts[0] if len(set(texts)) == 1 else texts


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
            ids.octets_of((half,)), origin.request_id, origin.endpoint, origin.role, client, version, self.latency,
            self.rows, self.applicant_ids, numeric, codes, probability, points, declined, None,
        )  # fmt: skip
