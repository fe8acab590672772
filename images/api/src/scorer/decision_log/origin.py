"""Where a request came from: what its decisions' records say of it."""

from __future__ import annotations

from typing import Literal

import msgspec

# champion: a stable pod; canary: the canary's pod, for a client; fall-back: a stable pod, because the canary did not
# answer; shadow: the canary's pod, for comparison only.
Role = Literal["champion", "canary", "fall-back", "shadow"]
Endpoint = Literal["score", "batch", "ndjson", "invocations", "open_inference"]


# gc=False: it cannot be part of a reference cycle, and every request makes one.
class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a request that is to be scored came from.

    Attributes:
        request_id: The client's, or an assigned one.
        endpoint: The label in metrics, audit log and decision log.
        started: The perf_counter of when its body was complete.
        role: As whose answer it is scored.
        applicant_id: That of a header; a body may have others.
    """

    request_id: str
    endpoint: Endpoint
    started: float
    role: Role = "champion"
    applicant_id: str | None = None
