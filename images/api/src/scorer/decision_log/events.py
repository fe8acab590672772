"""Events: what the log keeps of scored requests, as contracts/decision-segment.sql describes it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from scorer.answers import Decision, Reason
from scorer.applications.applicants import ApplicantIds
from scorer.applications.rows import CodeRows, FloatRows
from scorer.decision_log.ids import octets_of
from scorer.decision_log.origin import Origin

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
    reasons: Sequence[Sequence[str] | None] | None


# The decision on a single application until it becomes part of an event: its id; the perf_counter of when it was
# scored; where the request came from, whose applicant's id has precedence; the applicant's id in the body; the client
# as access control knows it; numeric [1, features]; codes [1, features]; the probability of default; the score points;
# the decision; and the reasons, if they were asked for. A plain tuple, and only of what scoring has made anyway,
# because every request makes one. Making one event of many later costs a fraction of what as many events would.
Single = tuple[
    str, float, Origin, str | None, str, FloatRows, CodeRows, float, int, Decision, tuple[Reason, ...] | UnsetType
]  # fmt: skip


def event_of(singles: Sequence[Single], version: int) -> Event:
    """Return the event of decisions on single applications, at least one, by one version on one endpoint.

    Args:
        singles: The decisions.
        version: The version's key.
    """
    ids, ended, origins, in_bodies, clients, numeric, codes, probabilities, points, decisions, given = zip(
        *singles, strict=True
    )
    applicants = [origin.applicant_id or in_body or None for origin, in_body in zip(origins, in_bodies, strict=True)]
    latencies = [min(int((end - origin.started) * 1e6), _MOST) for end, origin in zip(ended, origins, strict=True)]
    # Joining arrays, and packing by array, takes a third of the time that NumPy would on so few rows.
    return Event(
        octets_of(ids), [origin.request_id for origin in origins], origins[0].endpoint,
        _one_or_all([origin.role for origin in origins]), _one_or_all(clients), version,
        array("i", latencies).tobytes(), bytes(4 * len(ids)), applicants if any(applicants) else None,
        b"".join(numeric), b"".join(codes), array("f", probabilities).tobytes(), array("i", points).tobytes(),
        bytes([decision == "decline" for decision in decisions]), _codes_of(given),
    )  # fmt: skip


def _codes_of(given: Sequence[tuple[Reason, ...] | UnsetType]) -> Sequence[Sequence[str] | None] | None:
    """Return the reasons' codes by row, None for those that did not ask; None if no row did."""
    if given.count(UNSET) == len(given):
        return None
    return [None if isinstance(one, UnsetType) else [reason.code for reason in one] for one in given]


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

    def event(self, first_id: str, version: int, client: str, origin: Origin) -> Event:
        """Return the event; the arguments are those of its fields."""
        numeric, codes, probability, points, declined = self.columns
        return Event(
            octets_of([first_id]), origin.request_id, origin.endpoint, origin.role, client, version, self.latency,
            self.rows, self.applicant_ids, numeric, codes, probability, points, declined, None,
        )  # fmt: skip
